package procexec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/taskproto"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// A ForkServer is the connection to a fork server: a process that has loaded the user's code, and
// forks processes for a Pool. The fork server is itself a fork of the user's program, which has
// also started this program. Only the fork server, as the parent of its forks, can wait for them
// and signal them safely. The connection is called the control socket. Its messages are private to
// ctworker and its SDKs.
type ForkServer struct {
	Hello Handshake

	conn      *net.UnixConn
	lines     *bufio.Reader
	onWarning func(warning string)

	writeMu sync.Mutex

	mu           sync.Mutex
	live         map[int64]*forkedProcess
	runID        string        // Launcher.runID; "" before Start
	spawns       bool          // the Launcher starts and kills the processes of the tasks
	pid          int           // pid of the fork server; 0 until the fork server reports it
	killDelay    time.Duration // ForkServerConfig.KillDelay
	pingSentAt   time.Time     // when the oldest ping that has no answer was sent; zero if there is none
	closing      bool          // Close has been called
	killReason   error         // why this program killed the fork server; nil if it did not
	sweepNeeded  bool          // a fork has exited since the last scan for orphans
	exited       bool          // the fork server has exited
	exitedCh     chan struct{} // closed when the fork server has exited and onExit has killed its forks
	sourceErr    error         // why the task source failed, or nil; valid once sourceDone is closed
	sourceDone   chan struct{}
	receiverDone chan struct{} // closed when receive has returned; nil before Start
	sweeperDone  chan struct{} // closed when sweepOrphans has returned
}

// ErrForkServerExited is returned when a process is needed and the fork server has exited.
var ErrForkServerExited = errors.New("fork server exited: the program ended, or the fork server was killed (by a task, or because the machine is out of memory)")

// orphanInterval is the time between two scans for orphans. A scan reads files in /proc for each
// process of the machine. That takes about one millisecond for 200 processes.
const orphanInterval = time.Second

// controlVersion is the version of the messages on the control socket. Each message is one line of
// JSON. The fork server sends the first message. ID is the number of a forked process.
//
//	from the fork server
//	host: Handshake                     the handshake
//	server: PID                         the pid of the fork server
//	forked: ID, pid                     a process was forked
//	failed: ID, errno                   a process could not be forked
//	ended: ID                           a process has exited after a signal; it stays a zombie until reap
//	exited: ID, status, cpu, maxrss     a process has exited and has been reaped
//	source_ended: {error}               the task source has ended; error is null if it did not fail
//	warning: TEXT                       a warning to log
//	pong: true                          the answer to ping
//
//	to the fork server
//	run, worker, slots, isolation, …    the ForkServerConfig; sent with the descriptors of the notifications
//	fork: ID, slot, last, streams, mark fork a process; sent with its socket, unless last its permits pipe, and a pipe per stream
//	signal: ID, sig                     send a signal to the process group of a process
//	reap: ID                            kill the process group of a zombie, and reap the zombie
//	sweep: true                         kill the orphans of processes that have been reaped
//	start_source: true                  start the task source
//	ping: true                          answer with pong
const controlVersion = 1

// OpenForkServer takes ownership of descriptor fd, the control socket, and reads the handshake of
// the fork server. Call Close on the result.
func OpenForkServer(fd int) (*ForkServer, error) {
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "control socket")
	if f == nil {
		return nil, fmt.Errorf("%s=%d is not a file descriptor", taskproto.ControlFDVar, fd)
	}
	conn, err := net.FileConn(f)
	_ = f.Close() // FileConn has duplicated the descriptor
	if err != nil {
		return nil, fmt.Errorf("%s: descriptor %d: %w", taskproto.ControlFDVar, fd, err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: descriptor %d is not a Unix socket", taskproto.ControlFDVar, fd)
	}
	h := &ForkServer{
		conn: unixConn, lines: bufio.NewReader(unixConn),
		live: map[int64]*forkedProcess{}, exitedCh: make(chan struct{}), sourceDone: make(chan struct{}), sweeperDone: make(chan struct{}),
	}
	line, err := h.lines.ReadBytes('\n')
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: the fork server sent no handshake: %w", taskproto.ControlFDVar, err)
	}
	var first struct{ Host Handshake }
	if err := taskproto.Unmarshal(line, &first); err != nil || first.Host.Version != controlVersion {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: ctworker does not understand the handshake %s of the fork server: "+
			"use the ctworker program that is part of the SDK's package", taskproto.ControlFDVar, utf8cut.Quote(line))
	}
	h.Hello = first.Host
	if from := h.Hello.Source; from != nil && from.File == "" {
		// Child processes must not inherit the pipe. If they held it open, the program that writes
		// to the pipe would not notice that this program has stopped reading.
		syscall.CloseOnExec(from.StreamFD)
	}
	return h, nil
}

// ForkServerConfig configures a ForkServer.
type ForkServerConfig struct {
	// Launcher provides the id of the run, by which the processes of the run can be found.
	Launcher *Launcher
	// KillDelay is how long a task may suspend the fork server before the fork server is killed. A
	// value below one second is raised to one second.
	KillDelay time.Duration
	// Worker describes the worker to the forks. It is the JSON object "worker" in the first line of
	// the task protocol.
	Worker []byte
	Slots  int
	// Isolation is "fork", "reuse" or "spawn". With "spawn", tasks run in processes started by
	// Handshake.Argv, and the fork server forks only the task source.
	Isolation string
	// MaxResult is the maximum size of a result. MemoryLimit is the maximum size of the address
	// space of a fork. Both are in bytes.
	MaxResult, MemoryLimit int64
	// Env are additional environment variables for the forks, as KEY=VALUE. Except for
	// CTWORKER_BIN, the fork server removes all other variables with the prefixes CTWORKER_ and
	// RMS_CLOUD_TASKS_. The removed variables may belong to another run, in which the user's
	// program is a task.
	Env                   []string
	Shutdown, Termination *Notification
	// OnWarning receives the warnings of the fork server. It is not called concurrently.
	OnWarning func(text string)
}

// Start sends the configuration to the fork server, and starts the goroutines that handle the
// messages of the fork server and check that it responds.
func (h *ForkServer) Start(s ForkServerConfig) error {
	env := map[string]string{}
	for _, v := range append(s.Env, notificationEnv(s.Shutdown, s.Termination, 0, 0)...) {
		for i := range v {
			if v[i] == '=' {
				env[v[:i]] = v[i+1:]
				break
			}
		}
	}
	// The fork server sets these two variables itself, because it chooses the descriptors of its
	// forks.
	delete(env, taskproto.ShutdownFDVar)
	delete(env, taskproto.TerminationFDVar)
	h.onWarning = s.OnWarning
	if h.onWarning == nil {
		h.onWarning = func(string) {}
	}
	h.runID, h.killDelay = s.Launcher.runID, max(s.KillDelay, time.Second)
	h.spawns = s.Isolation == "spawn"
	err := h.send(map[string]any{
		"run": h.runID, "worker": jsontext.Value(s.Worker), "slots": s.Slots, "isolation": s.Isolation, "max_result_size": s.MaxResult,
		"memory_limit": s.MemoryLimit, "env": env,
	}, int(s.Shutdown.FD()), int(s.Termination.FD()))
	if err != nil {
		return err
	}
	h.receiverDone = make(chan struct{})
	go h.receive()
	go h.guarded(h.sweepOrphans)
	return nil
}

// Exited returns a channel that is closed when the fork server has exited.
func (h *ForkServer) Exited() <-chan struct{} { return h.exitedCh }

// StartSource makes the fork server start the task source of the user's program. The source writes
// its tasks to a pipe.
func (h *ForkServer) StartSource() error { return h.send(map[string]any{"start_source": true}) }

// SourceDone returns a channel that is closed when the task source has ended.
func (h *ForkServer) SourceDone() <-chan struct{} { return h.sourceDone }

// SourceError returns why the task source failed, or nil if it ended without an error. It may be
// called once SourceDone is closed.
func (h *ForkServer) SourceError() error { return h.sourceErr }

// ExitError returns why the fork server has exited. The error matches ErrForkServerExited. It may
// be called once Exited is closed.
func (h *ForkServer) ExitError() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killReason != nil {
		return h.killReason
	}
	return ErrForkServerExited
}

// Close closes the connection and waits until the fork server has exited. A fork server whose
// connection is closed kills its forks and exits.
func (h *ForkServer) Close() error {
	h.mu.Lock()
	h.closing = true
	h.mu.Unlock()
	err := h.conn.Close()
	if h.receiverDone != nil {
		<-h.receiverDone
		<-h.sweeperDone
		h.awaitExit()
	}
	return err
}

// send sends one message, with the descriptors fds. The caller still has to close fds.
func (h *ForkServer) send(message any, fds ...int) error {
	line, err := json.Marshal(message, rawjson.Options())
	if err != nil {
		return err
	}
	return h.sendLine(append(line, '\n'), fds...)
}

func (h *ForkServer) sendLine(line []byte, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	h.writeMu.Lock()
	defer h.writeMu.Unlock()
	n, _, err := h.conn.WriteMsgUnix(line, rights, nil)
	for err == nil && n < len(line) {
		var more int
		more, err = h.conn.Write(line[n:])
		n += more
	}
	if err != nil {
		return fmt.Errorf("%w; a message to the fork server could not be sent: %w", h.ExitError(), err)
	}
	return nil
}

// receive handles the messages of the fork server until the connection ends.
func (h *ForkServer) receive() {
	defer close(h.receiverDone)
	h.guarded(h.receiveAll)
	h.onExit()
}

func (h *ForkServer) receiveAll() {
	for {
		line, err := h.lines.ReadSlice('\n')
		if err == nil {
			h.onMessage(line)
			continue
		}
		if errors.Is(err, bufio.ErrBufferFull) { // a long line, such as a traceback
			long := bytes.Clone(line) // a copy, because the next read overwrites line
			rest, err := h.lines.ReadBytes('\n')
			if err == nil {
				h.onMessage(append(long, rest...))
				continue
			}
		}
		return
	}
}

func (h *ForkServer) onMessage(line []byte) { //nolint:gocyclo // one case per message
	var m struct {
		Forked      *int64
		Pid         int
		Failed      *int64
		Errno       int
		Error       string
		Ended       *int64
		Exited      *int64
		Status      uint32
		CPU         float64
		MaxRSS      int64
		SourceEnded *struct{ Error *string } `json:"source_ended"`
		Warning     string
		Server      int
		Pong        bool
	}
	if err := taskproto.Unmarshal(line, &m); err != nil {
		h.onWarning("ignored an invalid message from the fork server: " + utf8cut.Quote(line))
		return
	}
	switch {
	case m.Pong:
		h.onPong()
	case m.Server > 1:
		h.setPid(m.Server)
	case m.Forked != nil:
		if f := h.find(*m.Forked, false); f != nil {
			f.pid.Store(int64(m.Pid))
			f.launcher.table.set(f.tableEntry, m.Pid)
		}
	case m.Failed != nil:
		if f := h.find(*m.Failed, true); f != nil {
			f.err = fmt.Errorf("the fork server could not fork a process: %w", syscall.Errno(m.Errno))
			f.end()
		}
	case m.Ended != nil:
		if f := h.find(*m.Ended, false); f != nil {
			go h.guarded(f.lingerAndReap)
		}
	case m.Exited != nil:
		if f := h.find(*m.Exited, true); f != nil {
			f.exit = Exit{Code: exitCode(syscall.WaitStatus(m.Status)), CPU: time.Duration(m.CPU * float64(time.Second)), PeakMemory: m.MaxRSS}
			f.end()
		}
	case m.SourceEnded != nil && !isClosed(h.sourceDone):
		if m.SourceEnded.Error != nil {
			h.sourceErr = errors.New(*m.SourceEnded.Error)
		}
		close(h.sourceDone)
	case m.Warning != "":
		h.onWarning(m.Warning)
	}
}

// exitCode returns the exit code, or minus the number of the signal that ended the process.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return -int(status.Signal())
	}
	return status.ExitStatus()
}

// sweepOrphans pings the fork server every second. It also kills orphans: processes that forks have
// left behind outside of their process groups, for example in their own session. An orphan that
// executed another program has an environment variable CTWORKER_PROCESS, the marker, by which
// ctworker finds the orphan. An orphan without a marker becomes a child of the fork server, which
// kills it.
func (h *ForkServer) sweepOrphans() {
	defer close(h.sweeperDone)
	ticker := time.NewTicker(orphanInterval)
	defer ticker.Stop()
	for {
		last := false
		select {
		case now := <-ticker.C:
			h.checkResponsive(now)
		case <-h.receiverDone:
			last = true
		}
		h.mu.Lock()
		runID, sweep := h.runID, h.sweepNeeded || last
		h.sweepNeeded = false
		h.mu.Unlock()
		if sweep && !last {
			_ = h.send(map[string]any{"sweep": true})
		}
		if sweep {
			killOrphaned(runID, func(id int64) bool {
				h.mu.Lock()
				defer h.mu.Unlock()
				_, live := h.live[id]
				return live
			})
		}
		if last {
			return
		}
	}
}

// find returns the fork with the number id, or nil. If remove is true, find also removes the fork
// from h.live. The fork has then exited, or could not be forked.
func (h *ForkServer) find(id int64, remove bool) *forkedProcess {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.live[id]
	if remove {
		delete(h.live, id)
		h.sweepNeeded = true
	}
	return f
}

// onExit kills the forks of a fork server that has exited.
func (h *ForkServer) onExit() {
	h.mu.Lock()
	h.exited = true
	live, closing := h.live, h.closing
	h.live = map[int64]*forkedProcess{}
	h.mu.Unlock()
	for _, f := range live {
		// The leader of the group died with its parent, the fork server. The id of the group is
		// still valid: either the group has other processes, or the leader died too recently for
		// its id to be reused.
		if pid := f.Pid(); pid > 1 {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			f.launcher.table.clear(f.tableEntry)
		}
	}
	if !closing && !h.spawns {
		// Without the fork server, only this program can find processes that left their groups.
		killAllMarked(h.runID)
	}
	close(h.exitedCh)
	for _, f := range live {
		f.exit, f.forkServerDied = Exit{Code: -int(syscall.SIGKILL)}, true
		f.end()
	}
}

// Signal sends sig to the process groups of all forks.
func (h *ForkServer) Signal(sig syscall.Signal) {
	h.mu.Lock()
	live := slices.Collect(maps.Values(h.live))
	h.mu.Unlock()
	for _, f := range live {
		f.signal(sig)
	}
}
