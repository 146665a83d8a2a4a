package procexec

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// ControlFDVar is the environment variable by which a program that has started this
// one, to have its tasks run in forks of itself, names the descriptor of its
// control socket.
const ControlFDVar = "CTWORKER_CONTROL_FD"

// Handshake is what a host says of itself.
type Handshake struct {
	Version int    `json:"version"`
	SDK     string `json:"sdk"`
	// Argv starts the program again. It is empty if the program was read from standard
	// input.
	Argv []string `json:"argv"`
	// Program is what the program is called in messages.
	Program string `json:"program"`
	// Ahead says that forked processes take tasks ahead.
	Ahead bool `json:"ahead"`
	// Source is where the program takes its tasks from; nil: from the settings.
	Source *ForkServerSource `json:"source"`
}

// ForkServerSource is a host's task source: a file, or what it writes to a pipe that
// this process has inherited.
type ForkServerSource struct {
	File     string `json:"file"`
	StreamFD int    `json:"stream_fd"`
	Name     string `json:"name"`
}

// UnmarshalJSON implements json.Unmarshaler. Names and arguments may contain invalid UTF-8.
func (h *Handshake) UnmarshalJSON(b []byte) error {
	type plain Handshake
	var names struct {
		Argv    []rawjson.FileName `json:"argv"`
		Program rawjson.FileName   `json:"program"`
	}
	if err := errors.Join(json.Unmarshal(b, (*plain)(h)), json.Unmarshal(b, &names)); err != nil {
		return err
	}
	h.Program = string(names.Program)
	for i, arg := range names.Argv {
		h.Argv[i] = string(arg)
	}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler. Names may contain invalid UTF-8.
func (s *ForkServerSource) UnmarshalJSON(b []byte) error {
	type plain ForkServerSource
	var names struct {
		File rawjson.FileName `json:"file"`
		Name rawjson.FileName `json:"name"`
	}
	if err := errors.Join(json.Unmarshal(b, (*plain)(s)), json.Unmarshal(b, &names)); err != nil {
		return err
	}
	s.File, s.Name = string(names.File), string(names.Name)
	return nil
}

// A Host is the program that has started this one, which forks processes for a
// Pool: it has the user's function loaded. This process is its child, so what it
// forks are siblings, which it alone can wait for and signal safely. They talk
// over a control socket, whose lines are private to ctworker and its SDKs.
type ForkServer struct {
	Hello Handshake

	conn  *net.UnixConn
	lines *bufio.Reader
	log   func(warning string)

	sending sync.Mutex

	mu         sync.Mutex
	live       map[int64]*fork
	runID      string        // of the launcher's marks; "" before Begin
	server     int           // pid of the fork server; 0 before it has reported it
	killDelay  time.Duration // ForkServerConfig.KillDelay
	asked      time.Time     // when the oldest unanswered ping was sent; zero if there is none
	closing    bool          // Close has been called
	killedFor  error         // why the fork server was killed; nil if it was not
	over       bool          // a fork has ended since the last sweep
	gone       bool          // the host has ended
	lost       chan struct{} // closed then
	sourceErr  error         // why the source did not come to its end; valid once sourceOver is closed
	sourceOver chan struct{}
	ended      chan struct{} // closed when receive has returned; nil before Begin
	swept      chan struct{} // closed when sweepStale has
}

// ErrForkServerExited says that the program that has started this one has ended.
var ErrForkServerExited = errors.New("the program that the tasks belong to has ended")

// orphanInterval is how often orphans are looked for. A scan reads a line for
// each process of the machine, about a millisecond for two hundred.
const orphanInterval = time.Second

// hostVersion is the version of the control socket's lines.
const hostVersion = 1

// OpenForkServer takes over the control socket fd and reads what the host says of
// itself. Close it.
func OpenForkServer(fd int) (*ForkServer, error) {
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "control socket")
	if f == nil {
		return nil, fmt.Errorf("%s: %d is no descriptor", ControlFDVar, fd)
	}
	conn, err := net.FileConn(f)
	_ = f.Close() // conn is a duplicate
	if err != nil {
		return nil, fmt.Errorf("%s: descriptor %d: %w", ControlFDVar, fd, err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: descriptor %d is no Unix socket", ControlFDVar, fd)
	}
	h := &ForkServer{
		conn: unixConn, lines: bufio.NewReader(unixConn),
		live: map[int64]*fork{}, lost: make(chan struct{}), sourceOver: make(chan struct{}), swept: make(chan struct{}),
	}
	line, err := h.lines.ReadBytes('\n')
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: the program that started ctworker said nothing: %w", ControlFDVar, err)
	}
	var first struct{ Host Handshake }
	if err := json.Unmarshal(line, &first); err != nil || first.Host.Version != hostVersion {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: the program that started ctworker speaks another version of its protocol: "+
			"it said %s; use the ctworker program that came with the package", ControlFDVar, quoteStart(line))
	}
	h.Hello = first.Host
	if from := h.Hello.Source; from != nil && from.File == "" {
		// The guard, and whatever else is started, is not to hold the pipe open: its
		// writer has to see when nobody reads any more.
		syscall.CloseOnExec(from.StreamFD)
	}
	return h, nil
}

// ForkServerConfig is what a host has to know before it forks.
type ForkServerConfig struct {
	// Launcher provides the run's id, with which the host marks its forks.
	Launcher *Launcher
	// KillDelay is how long the fork server may be suspended before it is killed.
	// Values below one second mean one second.
	KillDelay time.Duration
	// Worker is the JSON object of the task protocol's hello.
	Worker []byte
	Slots  int
	// Isolation is fork, reuse or spawn. With spawn, tasks run in processes started by Argv of
	// the Handshake; the fork server forks only the task source.
	Isolation string
	// MaxResult and MemoryLimit are in bytes.
	MaxResult, MemoryLimit int64
	// Env are variables for the processes. The host removes all other variables of
	// ctworker and of the specification, because they belong to an outer run.
	Env                   []string
	Shutdown, Termination *Notification
	// Warn receives what the host wants to be logged.
	OnWarning func(text string)
}

// Begin tells the host what it has to know, and listens to it from then on.
func (h *ForkServer) Begin(s ForkServerConfig) error {
	env := map[string]string{}
	for _, v := range append(s.Env, notificationEnv(s.Shutdown, s.Termination, 0, 0)...) {
		for i := range v {
			if v[i] == '=' {
				env[v[:i]] = v[i+1:]
				break
			}
		}
	}
	// The host knows the descriptors' numbers better.
	delete(env, "CTWORKER_SHUTDOWN_FD")
	delete(env, "CTWORKER_TERMINATION_FD")
	h.log = s.OnWarning
	if h.log == nil {
		h.log = func(string) {}
	}
	h.runID, h.killDelay = s.Launcher.runID, max(s.KillDelay, time.Second)
	err := h.send(map[string]any{
		"run": h.runID, "worker": json.RawMessage(s.Worker), "slots": s.Slots, "isolation": s.Isolation, "max_result_size": s.MaxResult,
		"memory_limit": s.MemoryLimit, "env": env,
	}, int(s.Shutdown.FD()), int(s.Termination.FD()))
	if err != nil {
		return err
	}
	h.ended = make(chan struct{})
	go h.receive()
	go h.guarded(h.sweepStale)
	return nil
}

// Lost is closed when the host has ended.
func (h *ForkServer) Lost() <-chan struct{} { return h.lost }

// StartSource has the host start its task source, which writes to the pipe.
func (h *ForkServer) StartSource() error { return h.send(map[string]any{"start_source": true}) }

// SourceOver is closed when the task source has ended.
func (h *ForkServer) SourceOver() <-chan struct{} { return h.sourceOver }

// SourceError is why the task source did not come to its end, or nil; once
// SourceOver is closed.
func (h *ForkServer) SourceError() error { return h.sourceErr }

// LostError returns why the host has ended. It is valid once Lost is closed, and matches
// ErrForkServerExited.
func (h *ForkServer) LostError() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killedFor != nil {
		return h.killedFor
	}
	return ErrForkServerExited
}

// Close closes the connection, upon which the host ends its forks, and waits until the fork
// server has exited.
func (h *ForkServer) Close() error {
	h.mu.Lock()
	h.closing = true
	h.mu.Unlock()
	err := h.conn.Close()
	if h.ended != nil {
		<-h.ended
		<-h.swept
		h.awaitServer()
	}
	return err
}

// send sends one line, with descriptors that stay the caller's.
func (h *ForkServer) send(message any, fds ...int) error {
	line, err := json.Marshal(message)
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
	h.sending.Lock()
	defer h.sending.Unlock()
	n, _, err := h.conn.WriteMsgUnix(line, rights, nil)
	for err == nil && n < len(line) {
		var more int
		more, err = h.conn.Write(line[n:])
		n += more
	}
	if err != nil {
		return fmt.Errorf("%w (%w)", h.LostError(), err)
	}
	return nil
}

// receive handles the messages of the host until the connection ends.
func (h *ForkServer) receive() {
	defer close(h.ended)
	h.guarded(h.receiveAll)
	h.hostGone()
}

func (h *ForkServer) receiveAll() {
	for {
		line, err := h.lines.ReadSlice('\n')
		if err == nil {
			h.take(line)
			continue
		}
		if errors.Is(err, bufio.ErrBufferFull) { // a long traceback
			long := bytes.Clone(line) // before the buffer is read into again
			rest, err := h.lines.ReadBytes('\n')
			if err == nil {
				h.take(append(long, rest...))
				continue
			}
		}
		return
	}
}

func (h *ForkServer) take(line []byte) {
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
	if err := json.Unmarshal(line, &m); err != nil {
		h.log("the program that started ctworker said something that is not understood: " + quoteStart(line))
		return
	}
	switch {
	case m.Pong:
		h.answered()
	case m.Server > 1:
		h.setServer(m.Server)
	case m.Forked != nil:
		if f := h.find(*m.Forked, false); f != nil {
			f.pid.Store(int64(m.Pid))
			f.launcher.table.set(f.place, m.Pid)
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
			f.launcher.table.clear(f.place, f.Pid())
			close(f.done)
		}
	case m.SourceEnded != nil && !isClosed(h.sourceOver):
		if m.SourceEnded.Error != nil {
			h.sourceErr = errors.New(*m.SourceEnded.Error)
		}
		close(h.sourceOver)
	case m.Warning != "":
		h.log(m.Warning)
	}
}

// sweepStale kills what forks have left behind outside of their groups, such as in
// a session of its own. They are no children of this process, so it knows them by
// the mark in their environment, which only a program that was started has. A
// plain fork of a fork is for the host to find, whose child it becomes.
func (h *ForkServer) sweepStale() {
	defer close(h.swept)
	ticker := time.NewTicker(orphanInterval)
	defer ticker.Stop()
	for {
		last := false
		select {
		case now := <-ticker.C:
			h.watchServer(now)
		case <-h.ended:
			last = true
		}
		h.mu.Lock()
		runID, over := h.runID, h.over || last
		h.over = false
		h.mu.Unlock()
		if over && !last {
			// Orphans without a mark become the host's children.
			_ = h.send(map[string]any{"sweep": true})
		}
		if over {
			killStale(runID, func(id int64) bool {
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

// find returns the fork of that id, and forgets it if it is over.
func (h *ForkServer) find(id int64, over bool) *fork {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.live[id]
	if over {
		delete(h.live, id)
		h.over = true
	}
	return f
}

// hostGone ends what the host has forked, as it can no longer do so itself.
func (h *ForkServer) hostGone() {
	h.mu.Lock()
	h.gone = true
	left, closing := h.live, h.closing
	h.live = map[int64]*fork{}
	h.mu.Unlock()
	for _, f := range left {
		// The leader has died of its parent's death. What it has left has its
		// group, whose id no other process can have got yet, as it is in use; and
		// if it has left nothing, that only just.
		if pid := f.Pid(); pid > 1 {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			f.launcher.table.clear(f.place, pid)
		}
	}
	if !closing {
		// Without the host, only this process can find those that have left the groups.
		killAllMarked(h.runID)
	}
	close(h.lost)
	for _, f := range left {
		f.exit, f.lost = Exit{Code: -int(syscall.SIGKILL)}, true
		close(f.done)
	}
}

// fork is a process that the host has forked, or is about to.
type fork struct {
	host     *ForkServer
	launcher *Launcher
	id       int64
	place    int          // in the guard's table
	pid      atomic.Int64 // 0 until the host has said
	patience atomic.Int64 // nanoseconds that what outlives the leader has

	done chan struct{}
	exit Exit  // valid once done
	err  error // why there was no process
	lost bool  // it has died with its host, or is about to; valid once done
}

// fork asks for a process, and does not wait for it: the task is sent meanwhile.
func (h *ForkServer) fork(l *Launcher, slotIndex, place, socket, claim int) (*fork, error) {
	id, mark := l.mark()
	f := &fork{host: h, launcher: l, id: id, place: place, done: make(chan struct{})}
	h.mu.Lock()
	if h.gone {
		h.mu.Unlock()
		return nil, h.LostError()
	}
	h.live[id] = f
	h.mu.Unlock()
	fds := []int{socket}
	if claim >= 0 {
		fds = append(fds, claim)
	}
	line := make([]byte, 0, 128)
	line = append(line, `{"fork":`...)
	line = strconv.AppendInt(line, id, 10)
	line = append(line, `,"slot":`...)
	line = strconv.AppendInt(line, int64(slotIndex), 10)
	line = append(line, `,"last":`...)
	line = strconv.AppendBool(line, claim < 0)
	line = append(line, `,"mark":"`...)
	line = append(line, mark...)
	line = append(line, "\"}\n"...)
	if err := h.sendLine(line, fds...); err != nil {
		if h.find(id, true) != nil {
			return nil, err
		}
	}
	return f, nil
}

// Signal sends a signal to each process that the host has forked, and its group.
func (h *ForkServer) Signal(sig syscall.Signal) {
	h.mu.Lock()
	live := slices.Collect(maps.Values(h.live))
	h.mu.Unlock()
	for _, f := range live {
		f.signal(sig)
	}
}

func (f *fork) Pid() int              { return int(f.pid.Load()) }
func (f *fork) Done() <-chan struct{} { return f.done }
func (f *fork) Exit() Exit            { <-f.done; return f.exit }

// diedWithHost reports whether it ended for no reason of its own.
func (f *fork) diedWithHost() bool { <-f.done; return f.lost }

// startError is why there was no process.
func (f *fork) startError() error { <-f.done; return f.err }

func (f *fork) Terminate(grace time.Duration) {
	f.patience.Store(int64(grace))
	f.signal(syscall.SIGTERM)
}

func (f *fork) Kill() { f.signal(syscall.SIGKILL) }

// signal asks the host, which alone knows whether the pid is still the child's.
// It does not block: the caller may hold a lock.
func (f *fork) signal(sig syscall.Signal) {
	go func() { _ = f.host.send(map[string]any{"signal": f.id, "sig": int(sig)}) }()
}

// lingerAndReap lets what a terminated leader has left in its group end, as
// Process.Terminate does, before it is killed.
func (f *fork) lingerAndReap() {
	awaitGroup(f.Pid(), time.Now().Add(time.Duration(f.patience.Load())))
	_ = f.host.send(map[string]any{"reap": f.id})
}
