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
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/taskproto"
)

// child is the child process of a worker program. One goroutine runs the tasks. If a task
// ends that goroutine (runtime.Goexit), another one replaces it.
type child struct {
	conn *taskproto.WorkerConn
	out  []byte

	program    *Program
	invoker    *invoker
	worker     any // return value of Program.NewWorker
	maxRuntime time.Duration

	task    Task   // the current task
	quoted  []byte // ID of the current task as a JSON string
	state   atomic.Int32
	current atomic.Pointer[taskContext]

	code    int
	done    chan struct{} // closed when code is final
	exiting bool          // serve returns because there are no more tasks
}

// The states of a child. SIGTERM ends an idle child immediately, and a busy child after its current
// task.
const (
	idle int32 = iota
	busy
	terminating
)

// exitTerminated is the exit code after SIGTERM.
const exitTerminated = 128 + int(syscall.SIGTERM)

// newChild takes ownership of the descriptors of the task protocol.
func newChild(p *Program) (*child, error) {
	conn, err := taskproto.OpenWorker()
	if err != nil {
		return nil, err
	}
	return &child{program: p, conn: conn, done: make(chan struct{})}, nil
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
	line, err := c.conn.ReadLine()
	if err != nil {
		return fmt.Errorf("read the hello message from ctworker: %w", err)
	}
	first, err := taskproto.ParseHello(line)
	if err != nil {
		return err
	}
	if c.maxRuntime, err = maxRuntimeOf(json.RawMessage(first.Worker)); err != nil {
		return err
	}
	c.worker, err = c.program.NewWorker(WorkerInfo{
		JSON: json.RawMessage(first.Worker), Slot: first.Slot, Args: args,
		Shutdown: pollNotification(taskproto.ShutdownFDVar), Termination: pollNotification(taskproto.TerminationFDVar),
	})
	if err != nil {
		return err
	}
	maxResult := first.MaxResultSize
	if maxResult <= 0 {
		maxResult = math.MaxInt64
	}
	c.invoker = newInvoker(c.program.Func, maxResult)
	return c.conn.SendReady("ctworker-go " + c.program.Version)
}

// pollNotification returns a function that reports whether a notification has been raised. name is
// the environment variable that contains the descriptor of the notification. The function polls the
// descriptor without reading from it, because all child processes share the notification.
func pollNotification(name string) func() bool {
	fd, err := taskproto.DescriptorFrom(name)
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

// serve runs tasks until there are no more. If a task ends the goroutine, as runtime.Goexit does, a
// new goroutine calls serve with unfinished set: it first reports the result of that task, and then
// continues.
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
		line, err := c.conn.ReadLine()
		if err != nil {
			return c.exit(exitCodeFor(err))
		}
		t, err := taskproto.ParseTask(line)
		if errors.Is(err, taskproto.ErrNotATask) {
			continue
		}
		if err != nil {
			_, _ = fmt.Fprintf(os.Stderr, "ctworker: %v\n", err)
			return c.exit(1)
		}
		// Check for SIGTERM before claiming the task, because an unclaimed task can still run in another
		// process.
		if !c.state.CompareAndSwap(idle, busy) {
			return c.exit(exitTerminated)
		}
		if !c.conn.Claim() {
			c.out = taskproto.AppendReturned(c.out[:0], t.Quoted)
			if !c.sendReply() {
				return false
			}
			continue
		}
		c.quoted = append(c.quoted[:0], t.Quoted...)
		c.task = Task{ID: string(t.ID), Data: bytes.Clone(t.Data), Attempt: t.Attempt, Worker: c.worker}
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
	c.out = c.invoker.out.appendReply(c.out[:0], c.quoted, c.invoker.maxResult)
	return c.sendReply()
}

// sendReply writes c.out and sets the state to idle. It reports whether another task may
// follow.
func (c *child) sendReply() bool {
	err := c.conn.Write(c.out)
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

// maxRuntimeOf returns the maximum runtime of a task from the "worker" field of the task
// protocol.
func maxRuntimeOf(worker json.RawMessage) (time.Duration, error) {
	var w struct {
		MaxRuntime float64 `json:"max_runtime"`
	}
	if err := json.Unmarshal(worker, &w); err != nil {
		return 0, fmt.Errorf("worker data: %w", err)
	}
	return taskproto.SecondsToDuration(w.MaxRuntime), nil
}
