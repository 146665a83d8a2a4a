package procexec

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/internal/rawjson"
)

// CommandOptions configures a Command.
type CommandOptions struct {
	// Argv is the program and its arguments, in which {task_id} and {data.KEY} are replaced.
	// NewCommand searches PATH for the program.
	Argv []string
	// Env is the environment of all tasks. Defaults to the environment of this process.
	Env []string
	// MaxRuntime is the maximum run time of a task. Defaults to 10 minutes.
	MaxRuntime time.Duration
	// KillDelay is the time between SIGTERM and SIGKILL. Defaults to 5s; NoKillDelay
	// disables it.
	KillDelay time.Duration
	// MemoryLimit is the maximum address space of each process in bytes (Linux). 0 means no
	// limit.
	MemoryLimit int64
	// MaxResult is the maximum size of a result in bytes. Defaults to 16 MiB.
	MaxResult int64
	// Shutdown and Termination are inherited by all tasks. May be nil.
	Shutdown, Termination *Notification
	// Stderr receives each line that a task writes to its standard error, without
	// the line ending. It is called from a goroutine of the task. The line is valid
	// during the call only. A line of more than 64 KiB is passed in pieces that end
	// between characters; continued is true for every piece after the first. If Stderr
	// is nil, the lines are discarded.
	Stderr func(task Task, line []byte, continued bool)
}

// NoKillDelay is a KillDelay that sends SIGKILL immediately.
const NoKillDelay time.Duration = 1

// killDelay returns the time to wait for the value of a field KillDelay.
func killDelay(d time.Duration) time.Duration {
	switch d {
	case 0:
		return 5 * time.Second
	case NoKillDelay:
		return 0
	}
	return d
}

// Validate returns an error that lists every invalid field, or nil.
func (o CommandOptions) Validate() error {
	return optcheck.Join("procexec.CommandOptions", checkCommand(o.Argv), optcheck.NotNegative("MaxRuntime", o.MaxRuntime),
		optcheck.NotNegative("KillDelay", o.KillDelay), optcheck.NotNegative("MemoryLimit", o.MemoryLimit), optcheck.NotNegative("MaxResult", o.MaxResult))
}

func checkCommand(argv []string) error {
	program := ""
	if len(argv) > 0 {
		program = argv[0]
	}
	return optcheck.Required("Argv", program)
}

// A Command runs one process per task. It is safe for concurrent use, and need not be closed.
type Command struct {
	launcher *Launcher
	opts     CommandOptions
	path     string
	args     []placeholders
	env      []string
}

// NewCommand checks opts, finds the program in PATH, and returns a Command that starts its
// processes with l.
func NewCommand(l *Launcher, opts CommandOptions) (*Command, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if parsePlaceholders(opts.Argv[0]).parts != nil {
		return nil, fmt.Errorf("command %q contains a placeholder: the program must not depend on the task; use placeholders in arguments only", opts.Argv[0])
	}
	path, err := exec.LookPath(opts.Argv[0])
	if err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	if opts.Env == nil {
		opts.Env = os.Environ()
	}
	if opts.MaxRuntime == 0 {
		opts.MaxRuntime = 10 * time.Minute
	}
	opts.KillDelay = killDelay(opts.KillDelay)
	if opts.MaxResult == 0 {
		opts.MaxResult = 16 << 20
	}
	if opts.Stderr == nil {
		opts.Stderr = func(Task, []byte, bool) {}
	}
	c := &Command{launcher: l, opts: opts, path: path}
	for _, arg := range opts.Argv {
		c.args = append(c.args, parsePlaceholders(arg))
	}
	c.env = append(stripEngineVars(opts.Env), "CTWORKER_RESULT_FD="+strconv.Itoa(fdResult))
	c.env = append(c.env, notificationEnv(opts.Shutdown, opts.Termination, fdShutdown, fdTermination)...)
	return c, nil
}

// The descriptors of a task, in addition to the standard streams.
const (
	fdResult      = 3
	fdShutdown    = 4
	fdTermination = 5
)

// keptVars are the variables of ctworker that tasks inherit: the path of the ctworker program,
// and the list of the settings that belong to the outer run.
var keptVars = []string{"CTWORKER_BIN", "CTWORKER_OUTER_SETTINGS"}

// stripEngineVars removes the variables that an outer ctworker has set, because a task may
// itself run ctworker. Of a variable that occurs twice, it keeps the last, as os/exec does: a
// program may read the first.
func stripEngineVars(env []string) []string {
	kept := make([]string, 0, len(env))
	seen := make(map[string]bool, len(env))
	for _, v := range slices.Backward(env) {
		name, _, _ := strings.Cut(v, "=")
		ours := strings.HasPrefix(name, "CTWORKER_") && !slices.Contains(keptVars, name)
		if !ours && !seen[name] {
			seen[name] = true
			kept = append(kept, v)
		}
	}
	slices.Reverse(kept)
	return kept
}

// StopSignals end tasks early when they are closed. A nil channel never does.
type StopSignals struct {
	// Terminate ends running tasks with SIGTERM, and with SIGKILL after the kill delay.
	Terminate <-chan struct{}
	// Kill ends running tasks with SIGKILL.
	Kill <-chan struct{}
	// LeaseLost ends the task with SIGKILL because its lease is lost.
	LeaseLost <-chan struct{}
	// NoNewTasks prevents further tasks from starting.
	NoNewTasks <-chan struct{}
	// NoResults means that nobody receives the results of a Pool any more.
	NoResults <-chan struct{}
}

// Run runs one task and waits until it ends. It returns an error, a *StartError or one of the
// operating system, if no process could be started for a reason that is independent of the
// task. The task has not run then.
func (c *Command) Run(task Task, signals StopSignals) (TaskResult, error) {
	argv, err := c.argv(task)
	if err != nil {
		return TaskResult{Kind: Failed, Exception: err.Error()}, nil
	}
	began := time.Now()
	for delay := initialRetryDelay; ; delay = min(2*delay, maxRetryDelay) {
		result, err := c.runOnce(task, argv, signals)
		switch {
		case err == nil:
			result.Elapsed = time.Since(began)
			return result, nil
		case errors.Is(err, syscall.E2BIG):
			return failed("with the values of this task, the arguments and the environment of the command are too long for this system: "+
				"read the task from standard input instead (%v)", err), nil
		case !isShortage(err):
			return TaskResult{}, err
		case time.Since(began) > maxRetryTime:
			return TaskResult{}, &shortageError{err}
		}
		c.launcher.warnShortage(err)
		select {
		case <-time.After(delay):
		case <-signals.NoNewTasks:
			return TaskResult{Kind: Interrupted}, nil
		case <-signals.Terminate:
			return TaskResult{Kind: Interrupted}, nil
		case <-signals.Kill:
			return TaskResult{Kind: Interrupted}, nil
		case <-signals.LeaseLost:
			return TaskResult{Kind: LeaseLost}, nil
		}
	}
}

// If the machine is short of a resource when a process is to be started, the start is repeated,
// with exponential backoff, until maxRetryTime has passed: other tasks end and free resources.
const (
	initialRetryDelay = 20 * time.Millisecond
	maxRetryDelay     = time.Second
	maxRetryTime      = 30 * time.Second
)

// shortageError is returned if the machine was short of a resource for maxRetryTime.
type shortageError struct{ err error }

// Error returns the operating system's error and what to do.
func (e *shortageError) Error() string {
	todo := "run fewer tasks at once, or use a larger machine"
	switch {
	case errors.Is(e.err, syscall.EMFILE), errors.Is(e.err, syscall.EBADF):
		todo = "raise the limit on open files (ulimit -n), or run fewer tasks at once"
	case errors.Is(e.err, syscall.EAGAIN):
		todo = "raise the limit on processes (ulimit -u, or pids.max of the cgroup), or run fewer tasks at once"
	case errors.Is(e.err, syscall.ETXTBSY):
		todo = "another process is still writing the program's file"
	}
	return fmt.Sprintf("%v for %v: %s", e.err, maxRetryTime, todo)
}

// Unwrap returns the operating system's error.
func (e *shortageError) Unwrap() error { return e.err }

// isShortage reports whether err is caused by a temporary shortage of a resource.
func isShortage(err error) bool {
	for _, shortage := range []error{
		syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE,
		syscall.EBADF,   // from dup3(2) beyond the limit on open files, when Go starts a process
		syscall.ETXTBSY, // the program is still being written
	} {
		if errors.Is(err, shortage) {
			return true
		}
	}
	return false
}

// argv returns the arguments of the command for a task.
func (c *Command) argv(task Task) ([]string, error) {
	argv := make([]string, len(c.args))
	for i, t := range c.args {
		var err error
		if argv[i], err = t.expand(task); err != nil {
			return nil, err
		}
	}
	if strings.IndexByte(task.ID, 0) >= 0 {
		return nil, errors.New("the task_id contains a NUL character, but an environment variable such as CTWORKER_TASK_ID cannot contain one")
	}
	return argv, nil
}

// runOnce is Run without repeated starts. It leaves Elapsed to Run.
func (c *Command) runOnce(task Task, argv []string, signals StopSignals) (TaskResult, error) {
	std, err := c.openStdio(task)
	if err != nil {
		return TaskResult{}, err
	}
	defer std.finish()
	p, err := c.launcher.Start(Spec{
		Path: c.path, Args: argv, Files: c.files(std), Slot: task.Slot, MemoryLimit: c.opts.MemoryLimit,
		Env: append(c.env[:len(c.env):len(c.env)],
			"CTWORKER_TASK_ID="+task.ID,
			"CTWORKER_ATTEMPT="+strconv.Itoa(task.Attempt),
			"CTWORKER_SLOT="+strconv.Itoa(task.Slot)),
	})
	std.closeChildFDs()
	if err != nil {
		return TaskResult{}, err
	}
	kind := Completed
	if !p.waitFast(min(fastPathTime, c.opts.MaxRuntime)) {
		std.startReading()
		kind = waitOrStop(p, signals, c.opts.MaxRuntime, c.opts.KillDelay)
		if !isClosed(p.Done()) {
			// The process did not exit after SIGKILL: it is blocked in the
			// kernel. The Launcher continues to wait for it.
			return TaskResult{Kind: kind}, nil
		}
	}
	std.finish()
	if err := std.stderr.lineErr; err != nil {
		return TaskResult{}, fmt.Errorf("CommandOptions.Stderr: %w", err)
	}
	exit := p.Exit()
	result := TaskResult{Kind: kind}
	if kind == Completed {
		result = commandResult(exit, std.stdout, std.resultFD)
	}
	result.CPU, result.PeakMemory = exit.CPU, exit.PeakMemory
	return result, nil
}

// fastPathTime is how long Run waits for a task to end before it starts reading the output and
// watching the stop signals. Until then, the output stays in the pipes.
const fastPathTime = 5 * time.Millisecond

// files returns the descriptors of a process, in the order of their numbers in it.
func (c *Command) files(std *stdio) []uintptr {
	files := make([]uintptr, 0, fdTermination+1)
	for _, fd := range std.childFDs {
		files = append(files, uintptr(fd))
	}
	for _, n := range []*Notification{c.opts.Shutdown, c.opts.Termination} {
		fd := closedFD
		if n != nil {
			fd = n.FD()
		}
		files = append(files, fd)
	}
	return files
}

// closedFD as an element of Spec.Files leaves a descriptor of the process closed.
const closedFD = ^uintptr(0)

// sigkillTimeout is the maximum time to wait for a process after SIGKILL.
const sigkillTimeout = 10 * time.Second

// waitOrStop waits until the process ends, and terminates it after maxRuntime or at a stop
// signal. It returns Completed if the process exited on its own.
func waitOrStop(p *Process, signals StopSignals, maxRuntime, killDelay time.Duration) ExitKind {
	timer := time.NewTimer(maxRuntime - time.Since(p.Started()))
	defer timer.Stop()
	kind := Completed
	select {
	case <-p.Done():
	case <-timer.C:
		kind = TimedOut
	case <-signals.Terminate:
		kind = Interrupted
	case <-signals.Kill:
		kind = Interrupted
		killDelay = 0
	case <-signals.LeaseLost:
		kind = LeaseLost
		killDelay = 0
	}
	if p.hasExited() { // on its own, even if a signal arrived at the same time
		<-p.Done()
		return Completed
	}
	if killDelay > 0 {
		p.Terminate(killDelay)
		timer.Reset(killDelay)
		select {
		case <-p.Done():
			return kind
		case <-timer.C:
		case <-signals.Kill:
		case <-signals.LeaseLost:
		}
	}
	p.Kill()
	timer.Reset(sigkillTimeout)
	select {
	case <-p.Done():
	case <-timer.C:
	}
	return kind
}

// stdinLine returns the line that a command reads from its standard input.
func stdinLine(task Task) []byte {
	b := make([]byte, 0, len(task.ID)+len(task.Data)+32)
	b = append(b, `{"task_id":`...)
	b = rawjson.AppendQuote(b, task.ID)
	b = append(b, `,"data":`...)
	if len(task.Data) == 0 {
		b = append(b, "null"...)
	}
	b = append(b, task.Data...)
	return append(b, '}', '\n')
}
