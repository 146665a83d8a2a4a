package sdk

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
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/procexec"
)

// The environment variables of the task protocol; see docs/protocol.md.
const (
	taskFDVar        = "CTWORKER_FD"
	claimFDVar       = "CTWORKER_CLAIM_FD"
	ringFDVar        = "CTWORKER_RING_FD"
	shutdownFDVar    = "CTWORKER_SHUTDOWN_FD"
	terminationFDVar = "CTWORKER_TERMINATION_FD"
)

const protocolVersion = 1

// child is the child process of a worker program. One goroutine runs the tasks. If a task
// ends that goroutine (runtime.Goexit), another one replaces it.
//
// The file descriptors are read and written directly, without the poller of the Go runtime,
// which would only add latency: nothing else happens while a read blocks.
type child struct {
	fd    int
	claim int // pipe for claims; -1 if tasks arrive one at a time
	// ring replaces the socket for replies and the pipe for claims. It is nil if shared
	// memory is unavailable.
	ring *procexec.Ring
	one  [1]byte

	buf     []byte // bytes that have been read but not consumed
	next    int    // start of the next line in buf
	scanned int    // buf[next:scanned] contains no end of line
	out     []byte

	program    *Program
	invoker    *invoker
	worker     any // return value of Program.NewWorker
	maxRuntime time.Duration

	task    Task   // the current task
	quoted  []byte // its ID as a JSON string
	state   atomic.Int32
	current atomic.Pointer[taskContext]

	code    int
	done    chan struct{} // closed when code is final
	exiting bool          // serve returns because there are no more tasks
}

// The states of a child. SIGTERM ends an idle child at once, and a busy one after the current
// task.
const (
	idle int32 = iota
	busy
	terminating
)

// exitTerminated is the exit code after SIGTERM.
const exitTerminated = 128 + int(syscall.SIGTERM)

// isChild reports whether this process is a child, according to the environment.
func isChild() bool { return os.Getenv(taskFDVar) != "" }

// newChild takes ownership of the descriptors of the task protocol. It unsets their
// variables and sets close-on-exec, so that a process started by a task neither acts as a
// child nor keeps the socket open.
func newChild(p *Program) (*child, error) {
	c := &child{program: p, claim: -1, done: make(chan struct{})}
	var err error
	if c.fd, err = descriptorFrom(taskFDVar); err != nil {
		return nil, err
	}
	if kind, err := syscall.GetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_TYPE); err != nil || kind != syscall.SOCK_STREAM {
		return nil, fmt.Errorf("%s=%d is not a connected socket: the variable was inherited from another process; unset it", taskFDVar, c.fd)
	}
	syscall.CloseOnExec(c.fd)
	_ = syscall.SetNonblock(c.fd, false)
	if os.Getenv(claimFDVar) != "" {
		if c.claim, err = descriptorFrom(claimFDVar); err != nil {
			return nil, err
		}
		syscall.CloseOnExec(c.claim)
	}
	if os.Getenv(ringFDVar) != "" && c.claim >= 0 {
		fd, err := descriptorFrom(ringFDVar)
		if err != nil {
			return nil, err
		}
		c.ring, _ = procexec.OpenRing(fd, c.fd) // fall back to the socket and the pipe
	}
	_ = os.Unsetenv(taskFDVar)
	_ = os.Unsetenv(claimFDVar)
	_ = os.Unsetenv(ringFDVar)
	return c, nil
}

func descriptorFrom(name string) (int, error) {
	fd, err := strconv.Atoi(os.Getenv(name))
	if err != nil || fd < 0 {
		return -1, fmt.Errorf("%s=%q is not a file descriptor", name, os.Getenv(name))
	}
	return fd, nil
}

// run runs tasks until there are no more, and returns the exit code.
func (c *child) run(args []string) (int, error) {
	if err := c.hello(args); err != nil {
		return 1, err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go c.watch(signals)
	go c.serve(false)
	<-c.done
	return c.code, nil
}

// hello reads the hello message and replies to it.
func (c *child) hello(args []string) error {
	line, err := c.readLine()
	if err != nil {
		return fmt.Errorf("read hello message of ctworker: %w", err)
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
		return errors.New("first line of ctworker is not a hello message")
	}
	if v := first.Hello.Version; v != protocolVersion {
		return fmt.Errorf("ctworker uses version %d of the task protocol, this program version %d: build the program with the version of ctworker that runs it", v, protocolVersion)
	}
	if c.maxRuntime, err = maxRuntimeOf(first.Hello.Worker); err != nil {
		return err
	}
	c.worker, err = c.program.NewWorker(WorkerInfo{
		JSON: first.Hello.Worker, Slot: first.Hello.Slot, Args: args,
		Shutdown: pollNotification(shutdownFDVar), Termination: pollNotification(terminationFDVar),
	})
	if err != nil {
		return err
	}
	maxResult := first.Hello.MaxResultSize
	if maxResult <= 0 {
		maxResult = math.MaxInt64
	}
	c.invoker = newInvoker(c.program.Func, maxResult)
	ring := ""
	if c.ring != nil {
		ring = `"ring":true,`
	}
	ready := fmt.Appendf(nil, `{"ready":{"version":%d,"ahead":%t,%s"sdk":"ctworker-go %s"}}`+"\n", protocolVersion, c.claim >= 0, ring, c.program.Version)
	return c.write(ready)
}

// pollNotification returns a function that reports whether the notification has been raised
// whose descriptor is in the variable name. It polls without reading, because all processes
// share the descriptor.
func pollNotification(name string) func() bool {
	fd, err := descriptorFrom(name)
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

// serve runs tasks until there are no more. If a task ends the goroutine, a new one
// finishes that task and continues.
func (c *child) serve(unfinished bool) {
	defer func() {
		if c.exiting {
			close(c.done)
			return
		}
		go c.serve(true)
	}()
	more := true
	if unfinished {
		more = c.finishTask()
	}
	for more && c.nextTask() {
		c.invoker.invoke(c.current.Load(), c.task)
		more = c.finishTask()
	}
	c.exiting = true
}

// nextTask receives the next task and claims it. It returns false if there is none.
func (c *child) nextTask() bool {
	for {
		line, err := c.readLine()
		if err != nil {
			return c.exit(exitCodeFor(err))
		}
		t, err := parseTask(line)
		if errors.Is(err, errNotATask) {
			continue
		}
		if err != nil {
			_, _ = fmt.Fprintf(os.Stderr, "ctworker: %v\n", err)
			return c.exit(1)
		}
		// Check for SIGTERM before claiming the task, so that an unclaimed task can run elsewhere.
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
		c.task = Task{ID: string(t.id), Data: bytes.Clone(t.data), Attempt: t.attempt, Worker: c.worker}
		ctx := newTaskContext(c.maxRuntime)
		c.current.Store(ctx)
		if c.state.Load() == terminating { // watch may have run before the context was stored
			ctx.end(context.Canceled)
		}
		return true
	}
}

// finishTask sends the outcome of the current task. It reports whether another task may
// follow.
func (c *child) finishTask() bool {
	c.current.Load().end(context.Canceled)
	c.out = appendReply(c.out[:0], c.quoted, c.invoker.out, c.invoker.maxResult)
	return c.sendReply()
}

// sendReply writes c.out and sets the state to idle. It reports whether another task may
// follow.
func (c *child) sendReply() bool {
	err := c.write(c.out)
	if cap(c.out) > maxKeptBuffer {
		c.out = nil
	}
	switch {
	case err != nil:
		return c.exit(1) // the engine has exited
	case !c.state.CompareAndSwap(busy, idle):
		return c.exit(exitTerminated)
	}
	return true
}

func (c *child) exit(code int) bool {
	c.code = code
	return false
}

// exitCodeFor returns the exit code after a read error.
func exitCodeFor(err error) int {
	if errors.Is(err, io.EOF) {
		return 0
	}
	return 1
}

// watch handles SIGTERM.
func (c *child) watch(signals <-chan os.Signal) {
	<-signals
	for !c.state.CompareAndSwap(busy, terminating) {
		if c.state.CompareAndSwap(idle, terminating) {
			os.Exit(exitTerminated)
		}
	}
	if ctx := c.current.Load(); ctx != nil {
		reason := context.Canceled
		if ctx.isPastDeadline() {
			reason = context.DeadlineExceeded
		}
		ctx.end(reason)
	}
}

// claimTask reports whether the next task may be run by this process.
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

// minReadSize is the minimum free space in the buffer for a read.
const minReadSize = 32 << 10

// readLine returns the next line without its line feed. It is valid until the next call.
func (c *child) readLine() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.buf[c.scanned:], '\n'); i >= 0 {
			line := c.buf[c.next : c.scanned+i]
			c.next = c.scanned + i + 1
			c.scanned = c.next
			return line, nil
		}
		c.scanned = len(c.buf)
		if c.next > 0 {
			n := copy(c.buf, c.buf[c.next:])
			c.buf, c.scanned, c.next = c.buf[:n], n, 0
		}
		if len(c.buf) == 0 && cap(c.buf) > maxKeptBuffer {
			c.buf = nil // free the memory of a large task
		}
		if cap(c.buf)-len(c.buf) < minReadSize {
			c.buf = append(make([]byte, 0, max(2*minReadSize, 2*cap(c.buf))), c.buf...)
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

// maxRuntimeOf returns the maximum runtime of a task from the "worker" field of the task
// protocol.
func maxRuntimeOf(worker json.RawMessage) (time.Duration, error) {
	var w struct {
		MaxRuntime float64 `json:"max_runtime"`
	}
	if err := json.Unmarshal(worker, &w); err != nil {
		return 0, fmt.Errorf("worker data: %w", err)
	}
	return Seconds(w.MaxRuntime), nil
}

// Seconds converts s to a Duration, saturating at the maximum.
func Seconds(s float64) time.Duration {
	const maximum = 1<<63 - 1
	if ns := s * float64(time.Second); ns < maximum {
		return time.Duration(ns)
	}
	return maximum
}
