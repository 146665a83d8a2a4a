package ctworker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/procexec"
)

// The variables of the task protocol; see docs/protocol.md.
const (
	taskFDVar        = "CTWORKER_FD"
	claimFDVar       = "CTWORKER_CLAIM_FD"
	ringFDVar        = "CTWORKER_RING_FD"
	shutdownFDVar    = "CTWORKER_SHUTDOWN_FD"
	terminationFDVar = "CTWORKER_TERMINATION_FD"
)

const protocolVersion = 1

// child is this process as one that is handed task after task. One goroutine
// serves; it is replaced where a task ends it.
//
// The descriptors are read and written directly: what waits in a read is waited
// for by nobody else, so that the runtime's poller would only cost time.
type child struct {
	fd    int
	claim int // -1: tasks are handed over one at a time
	// ring is where replies go and claims come from, in place of the socket and the
	// pipe; nil: it is not there.
	ring *procexec.Ring
	one  [1]byte

	buf  []byte // what has been read and not been taken
	at   int    // of the next line in buf
	seen int    // up to where it has no end of line
	out  []byte

	invoker *invoker
	worker  *WorkerData

	task    *Task  // at hand
	quoted  []byte // its id, as JSON
	state   atomic.Int32
	current atomic.Pointer[taskContext]

	code     int
	done     chan struct{} // closed when code is final
	detached bool          // the serving goroutine ends of itself
}

// The states of a child. SIGTERM ends it at once between two tasks, and else after
// the one at hand.
const (
	idle int32 = iota
	busy
	ending
)

// exitTerminated is the exit code after SIGTERM.
const exitTerminated = 128 + int(syscall.SIGTERM)

// isChild reports whether the environment says that this process is a child.
func isChild() bool { return os.Getenv(taskFDVar) != "" }

// newChild takes the descriptors over, so that nothing which a task starts takes
// itself for a child or holds the socket open.
func newChild() (*child, error) {
	c := &child{claim: -1, done: make(chan struct{})}
	var err error
	if c.fd, err = fdOf(taskFDVar); err != nil {
		return nil, err
	}
	if kind, err := syscall.GetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_TYPE); err != nil || kind != syscall.SOCK_STREAM {
		return nil, fmt.Errorf("%s=%d is no connected socket: the variable is left over from the process that has started this one; unset it", taskFDVar, c.fd)
	}
	syscall.CloseOnExec(c.fd)
	_ = syscall.SetNonblock(c.fd, false)
	if os.Getenv(claimFDVar) != "" {
		if c.claim, err = fdOf(claimFDVar); err != nil {
			return nil, err
		}
		syscall.CloseOnExec(c.claim)
	}
	if os.Getenv(ringFDVar) != "" && c.claim >= 0 {
		fd, err := fdOf(ringFDVar)
		if err != nil {
			return nil, err
		}
		c.ring, _ = procexec.OpenRing(fd, c.fd) // without it, it goes as it goes without
	}
	_ = os.Unsetenv(taskFDVar)
	_ = os.Unsetenv(claimFDVar)
	_ = os.Unsetenv(ringFDVar)
	return c, nil
}

func fdOf(name string) (int, error) {
	fd, err := strconv.Atoi(os.Getenv(name))
	if err != nil || fd < 0 {
		return -1, fmt.Errorf("%s=%q is no descriptor", name, os.Getenv(name))
	}
	return fd, nil
}

// run serves until there are no more tasks, and returns the exit code.
func (c *child) run(f Func, args []string) (int, error) {
	if err := c.hello(f, args); err != nil {
		return 1, err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go c.watch(signals)
	go c.serve(false)
	<-c.done
	return c.code, nil
}

// hello reads the first line and answers it.
func (c *child) hello(f Func, args []string) error {
	line, err := c.line()
	if err != nil {
		return fmt.Errorf("ctworker said nothing: %w", err)
	}
	var first struct {
		Hello *struct {
			Version       int             `json:"version"`
			Slot          int             `json:"slot"`
			MaxResultSize int64           `json:"max_result_size"`
			Worker        json.RawMessage `json:"worker"`
		} `json:"hello"`
	}
	if err := json.Unmarshal(line, &first); err != nil || first.Hello == nil {
		return errors.New("the first line of ctworker is no hello")
	}
	if v := first.Hello.Version; v != protocolVersion {
		return fmt.Errorf("ctworker speaks version %d of the task protocol, and this program version %d: build it with the ctworker that runs it", v, protocolVersion)
	}
	if c.worker, err = parseWorkerData(first.Hello.Worker); err != nil {
		return err
	}
	c.worker.Slot, c.worker.Args = first.Hello.Slot, args
	c.worker.shutdown, c.worker.termination = noticeAt(shutdownFDVar), noticeAt(terminationFDVar)
	maxResult := first.Hello.MaxResultSize
	if maxResult <= 0 {
		maxResult = math.MaxInt64
	}
	c.invoker = newInvoker(f, maxResult)
	ring := ""
	if c.ring != nil {
		ring = `"ring":true,`
	}
	ready := fmt.Appendf(nil, `{"ready":{"version":%d,"ahead":%t,%s"sdk":"ctworker-go %s"}}`+"\n", protocolVersion, c.claim >= 0, ring, Version)
	return c.write(ready)
}

// noticeAt asks for the notice whose descriptor a variable names. Nothing is ever
// read from it: it is every process's.
func noticeAt(name string) func() bool {
	fd, err := fdOf(name)
	if err != nil {
		return nil
	}
	return func() bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(fds, 0)
		}
		return err == nil && n > 0 && fds[0].Revents&(unix.POLLIN|unix.POLLHUP) != 0
	}
}

// serve runs tasks until there are no more. A task that ends its goroutine is
// concluded by another one, which goes on.
func (c *child) serve(unfinished bool) {
	defer func() {
		if c.detached {
			close(c.done)
			return
		}
		go c.serve(true)
	}()
	more := true
	if unfinished {
		more = c.conclude()
	}
	for more && c.begin() {
		c.invoker.invoke(c.current.Load(), c.task)
		more = c.conclude()
	}
	c.detached = true
}

// begin takes the next task that is ours to run.
func (c *child) begin() bool {
	for {
		line, err := c.line()
		if err != nil {
			return c.exit(exitCodeFor(err))
		}
		t, err := parseTask(line)
		if errors.Is(err, errNoTask) {
			continue
		}
		if err != nil {
			_, _ = fmt.Fprintf(os.Stderr, "ctworker: %v\n", err)
			return c.exit(1)
		}
		// Before the task is ours: one that is not begun costs nobody anything.
		if !c.state.CompareAndSwap(idle, busy) {
			return c.exit(exitTerminated)
		}
		if !c.claimTask() {
			c.out = appendReturned(c.out[:0], t.quoted)
			if !c.sendReply() {
				return false
			}
			continue
		}
		c.quoted = append(c.quoted[:0], t.quoted...)
		c.task = &Task{ID: string(t.id), Data: bytes.Clone(t.data), Attempt: t.attempt, worker: c.worker}
		ctx := newTaskContext(c.worker.MaxRuntime)
		c.current.Store(ctx)
		if c.state.Load() == ending { // watch may have looked before it was there
			ctx.end(context.Canceled)
		}
		return true
	}
}

// conclude tells what came of the task at hand. It reports whether there may be
// another.
func (c *child) conclude() bool {
	c.current.Load().end(context.Canceled)
	c.out = appendReply(c.out[:0], c.quoted, c.invoker.out, c.invoker.maxResult)
	return c.sendReply()
}

// said writes c.out and ends being busy. It reports whether there may be another
// task.
func (c *child) sendReply() bool {
	err := c.write(c.out)
	if cap(c.out) > keptBuffer {
		c.out = nil
	}
	switch {
	case err != nil:
		return c.exit(1) // ctworker is gone
	case !c.state.CompareAndSwap(busy, idle):
		return c.exit(exitTerminated)
	}
	return true
}

func (c *child) exit(code int) bool {
	c.code = code
	return false
}

// endOf is the exit code where no more can be read.
func exitCodeFor(err error) int {
	if errors.Is(err, io.EOF) {
		return 0
	}
	return 1
}

// watch acts on SIGTERM.
func (c *child) watch(signals <-chan os.Signal) {
	<-signals
	for !c.state.CompareAndSwap(busy, ending) {
		if c.state.CompareAndSwap(idle, ending) {
			os.Exit(exitTerminated)
		}
	}
	if ctx := c.current.Load(); ctx != nil {
		why := context.Canceled
		if ctx.isDue() {
			why = context.DeadlineExceeded
		}
		ctx.end(why)
	}
}

// claimTask reports whether the next task is ours to run.
func (c *child) claimTask() bool {
	if c.claim < 0 {
		return true
	}
	if c.ring != nil {
		return c.ring.Claim()
	}
	for {
		n, err := syscall.Read(c.claim, c.one[:])
		if !errors.Is(err, syscall.EINTR) {
			return n == 1
		}
	}
}

// readRoom is how much room there is at least for a read.
const readRoom = 32 << 10

// line returns the next line without its end; it is valid until the next call.
func (c *child) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.buf[c.seen:], '\n'); i >= 0 {
			line := c.buf[c.at : c.seen+i]
			c.at = c.seen + i + 1
			c.seen = c.at
			return line, nil
		}
		c.seen = len(c.buf)
		if c.at > 0 {
			n := copy(c.buf, c.buf[c.at:])
			c.buf, c.seen, c.at = c.buf[:n], n, 0
		}
		if len(c.buf) == 0 && cap(c.buf) > keptBuffer {
			c.buf = nil // a large task has passed
		}
		if cap(c.buf)-len(c.buf) < readRoom {
			c.buf = append(make([]byte, 0, max(2*readRoom, 2*cap(c.buf))), c.buf...)
		}
		n, err := syscall.Read(c.fd, c.buf[len(c.buf):cap(c.buf)])
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return nil, os.NewSyscallError("read", err)
		case n == 0:
			return nil, io.EOF
		default:
			c.buf = c.buf[:len(c.buf)+n]
		}
	}
}

func (c *child) write(b []byte) error {
	if c.ring != nil {
		return c.ring.Write(b)
	}
	for len(b) > 0 {
		n, err := syscall.Write(c.fd, b)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("write", err)
		}
		b = b[max(n, 0):]
	}
	return nil
}
