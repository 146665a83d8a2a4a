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

// A ForkServer is the connection to a fork server, which forks processes for a Pool. The fork
// server is a fork of the program that started this process, and has the user's function loaded.
// Its forks are not children of this process, so only the fork server can wait for them and
// signal them safely. Messages on the control socket are private to ctworker and its SDKs.
type ForkServer struct {
	Hello Handshake

	conn      *net.UnixConn
	lines     *bufio.Reader
	onWarning func(warning string)

	writeMu sync.Mutex

	mu           sync.Mutex
	live         map[int64]*forkedProcess
	runID        string        // Launcher's run id; "" before Start
	pid          int           // pid of the fork server; 0 before it has reported it
	killDelay    time.Duration // ForkServerConfig.KillDelay
	pingSentAt   time.Time     // when the oldest unanswered ping was sent; zero if there is none
	closing      bool          // Close has been called
	killReason   error         // why the fork server was killed; nil if it was not
	sweepNeeded  bool          // a fork has exited since the last sweep
	exited       bool          // the fork server has exited
	exitedCh     chan struct{} // closed when the fork server has exited
	sourceErr    error         // why the source failed, or nil; valid once sourceDone is closed
	sourceDone   chan struct{}
	receiverDone chan struct{} // closed when receive has returned; nil before Start
	sweeperDone  chan struct{} // closed when sweepOrphans has returned
}

// ErrForkServerExited is returned if the fork server has exited.
var ErrForkServerExited = errors.New("fork server exited: the program has ended, or the fork server was killed, by a task or because the machine ran out of memory")

// orphanInterval is the time between two scans for orphans. A scan reads a line per process of
// the machine, which takes about a millisecond for 200 processes.
const orphanInterval = time.Second

// controlVersion is the version of the messages on the control socket. Each message is one line
// of JSON. The fork server sends first.
//
//	from the fork server
//	host: Handshake                     the handshake
//	server: PID                         the pid of the fork server
//	forked: ID, pid                     a process was forked
//	failed: ID, errno                   a process could not be forked
//	ended: ID                           a process has exited after a signal; it is a zombie until reap
//	exited: ID, status, cpu, maxrss     the process has been reaped
//	source_ended: {error}               the task source has ended
//	warning: TEXT                       to be logged
//	pong: true                          the answer to ping
//
//	to the fork server
//	run, worker, slots, isolation, …    the ForkServerConfig, with the notifications' descriptors
//	fork: ID, slot, last, mark          fork a process; with its socket, and its pipe of permits unless last
//	signal: ID, sig                     send a signal to the process group
//	reap: ID                            kill the process group of a zombie, and reap the zombie
//	sweep: true                         kill orphans of forks that have been reaped
//	start_source: true                  start the task source
//	ping: true                          answer with pong
const controlVersion = 1

// OpenForkServer takes over the control socket fd and reads the fork server's handshake. Call
// Close on the result.
func OpenForkServer(fd int) (*ForkServer, error) {
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "control socket")
	if f == nil {
		return nil, fmt.Errorf("%s=%d is not a file descriptor", taskproto.ControlFDVar, fd)
	}
	conn, err := net.FileConn(f)
	_ = f.Close() // conn is a duplicate
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
		return nil, fmt.Errorf("%s: incompatible handshake from the fork server: "+
			"it sent %s; use the ctworker program that is part of the package", taskproto.ControlFDVar, utf8cut.Quote(line))
	}
	h.Hello = first.Host
	if from := h.Hello.Source; from != nil && from.File == "" {
		// No child process may hold the pipe open: the writer must notice when this
		// process stops reading.
		syscall.CloseOnExec(from.StreamFD)
	}
	return h, nil
}

// ForkServerConfig configures a ForkServer.
type ForkServerConfig struct {
	// Launcher provides the run's id, which is part of the marker of each fork.
	Launcher *Launcher
	// KillDelay is how long the fork server may be suspended before it is killed.
	// Values below one second mean one second.
	KillDelay time.Duration
	// Worker is the JSON object "worker" of the task protocol's hello.
	Worker []byte
	Slots  int
	// Isolation is fork, reuse or spawn. With spawn, tasks run in processes started by Argv of
	// the Handshake; the fork server forks only the task source.
	Isolation string
	// MaxResult and MemoryLimit are in bytes.
	MaxResult, MemoryLimit int64
	// Env are additional variables for the forks. The fork server removes all other variables
	// of ctworker and of the specification, because they belong to an outer run.
	Env                   []string
	Shutdown, Termination *Notification
	// OnWarning receives the warnings of the fork server. It is called from one goroutine.
	OnWarning func(text string)
}

// Start sends the configuration to the fork server and starts handling its messages.
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
	// The fork server sets the numbers of the descriptors in its forks.
	delete(env, taskproto.ShutdownFDVar)
	delete(env, taskproto.TerminationFDVar)
	h.onWarning = s.OnWarning
	if h.onWarning == nil {
		h.onWarning = func(string) {}
	}
	h.runID, h.killDelay = s.Launcher.runID, max(s.KillDelay, time.Second)
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

// StartSource makes the fork server start its task source, which writes to the pipe.
func (h *ForkServer) StartSource() error { return h.send(map[string]any{"start_source": true}) }

// SourceDone returns a channel that is closed when the task source has ended.
func (h *ForkServer) SourceDone() <-chan struct{} { return h.sourceDone }

// SourceError returns why the task source failed, or nil if it is exhausted. It is valid once
// SourceDone is closed.
func (h *ForkServer) SourceError() error { return h.sourceErr }

// ExitError returns why the fork server has exited. It is valid once Exited is closed, and
// matches ErrForkServerExited.
func (h *ForkServer) ExitError() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killReason != nil {
		return h.killReason
	}
	return ErrForkServerExited
}

// Close closes the connection, which makes the fork server kill its forks and exit, and waits
// until it has exited.
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

// send sends one message. The descriptors fds remain the caller's.
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
		return fmt.Errorf("%w (%w)", h.ExitError(), err)
	}
	return nil
}

// receive handles messages from the fork server until the connection ends.
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
			long := bytes.Clone(line) // before the buffer is read into again
			rest, err := h.lines.ReadBytes('\n')
			if err == nil {
				h.onMessage(append(long, rest...))
				continue
			}
		}
		return
	}
}

// onMessage handles one message from the fork server.
func (h *ForkServer) onMessage(line []byte) {
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
		h.onWarning("ignored an unknown message from the fork server: " + utf8cut.Quote(line))
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
			f.launcher.table.set(f.tableIndex, m.Pid)
		}
	case m.Failed != nil:
		if f := h.find(*m.Failed, true); f != nil {
			f.err = fmt.Errorf("fork: %w", syscall.Errno(m.Errno))
			close(f.done)
		}
	case m.Ended != nil:
		if f := h.find(*m.Ended, false); f != nil {
			go h.guarded(f.lingerAndReap)
		}
	case m.Exited != nil:
		if f := h.find(*m.Exited, true); f != nil {
			status := syscall.WaitStatus(m.Status)
			f.exit = Exit{Code: status.ExitStatus(), CPU: time.Duration(m.CPU * float64(time.Second)), PeakMemory: m.MaxRSS}
			if status.Signaled() {
				f.exit.Code = -int(status.Signal())
			}
			f.launcher.table.clear(f.tableIndex, f.Pid())
			close(f.done)
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

// sweepOrphans kills processes that forks have left behind outside of their groups, for example
// in a session of their own. They are not children of this process. Those that executed another
// program have the marker in their environment. The others become children of the fork server,
// which finds them.
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
			// Orphans without a marker are children of the fork server.
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

// find returns the fork with that id, or nil. If remove is true, it also removes the fork,
// because it has exited.
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

// onExit kills the processes that the fork server has forked, which it can no longer do itself.
func (h *ForkServer) onExit() {
	h.mu.Lock()
	h.exited = true
	live, closing := h.live, h.closing
	h.live = map[int64]*forkedProcess{}
	h.mu.Unlock()
	for _, f := range live {
		// The parent-death signal has killed the leader. While other processes are in its
		// group, the id of the group cannot be reused. If there are none, the leader exited
		// so recently that its id has not been reused either.
		if pid := f.Pid(); pid > 1 {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			f.launcher.table.clear(f.tableIndex, pid)
		}
	}
	if !closing {
		// Without the fork server, only this process can find processes outside of the groups.
		killAllMarked(h.runID)
	}
	close(h.exitedCh)
	for _, f := range live {
		f.exit, f.forkServerDied = Exit{Code: -int(syscall.SIGKILL)}, true
		close(f.done)
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
