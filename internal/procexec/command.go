package procexec

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/rawjson"
)

// CommandOptions configures a Command.
type CommandOptions struct {
	// Argv is the program and its arguments. In the arguments, {task_id} and {data.KEY} are
	// replaced by values of the task. NewCommand searches PATH for the program.
	Argv []string
	// Env is the environment of all tasks. Defaults to the environment of this program.
	Env []string
	// MaxRuntime is the maximum run time of a task. Defaults to 10 minutes.
	MaxRuntime time.Duration
	// KillDelay is the time between SIGTERM and SIGKILL. Defaults to 5s; NoKillDelay means that
	// SIGKILL is sent immediately.
	KillDelay time.Duration
	// MemoryLimit is the maximum size of the address space of each process, in bytes (Linux). 0
	// means no limit.
	MemoryLimit int64
	// MaxResult is the maximum size of a result, in bytes. Defaults to 16 MiB.
	MaxResult int64
	// RequireKeys selects what happens if a placeholder names a key that the data of the task does
	// not have. If RequireKeys is true, Run returns an error, which ends the run. If it is false,
	// the result of the task is an exception.
	RequireKeys bool
	// Shutdown and Termination are passed to all tasks. May be nil.
	Shutdown, Termination *Notification
	// Stderr receives each line that a task writes to its standard error, without the line ending.
	// The line must not be used after Stderr has returned. A line of more than 64 KiB is passed in
	// several pieces, and continued is true for all pieces except the first. Stderr is called
	// concurrently for different tasks. If Stderr is nil, the lines are discarded.
	Stderr func(task Task, line []byte, continued bool)
	// Output returns the TaskOutput that receives the output of one attempt of a task. Output is
	// for use in this module only. May be nil.
	Output func(task Task) TaskOutput
}

// NoKillDelay is a value for KillDelay. It means that SIGKILL is sent immediately, without SIGTERM.
const NoKillDelay time.Duration = 1

// killDelay returns the duration that the value d of a field KillDelay stands for. 0 stands for the
// default.
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
	tracker  Tracker
	launcher *Launcher
	opts     CommandOptions
	path     string
	args     []placeholders
	env      []string
}

// NewCommand returns a Command that starts its processes with l. It returns an error if opts are
// invalid, or if the program is not found in PATH.
func NewCommand(l *Launcher, opts CommandOptions) (*Command, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if parsePlaceholders(opts.Argv[0]).parts != nil {
		return nil, fmt.Errorf("command %q contains a placeholder: the program must not depend on the task; use placeholders in arguments only", opts.Argv[0])
	}
	path, err := findProgram(opts.Argv[0])
	if err != nil {
		return nil, err
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

// The descriptors that a task inherits in addition to its standard streams.
const (
	fdResult      = 3
	fdShutdown    = 4
	fdTermination = 5
)

// keptVars are the variables with the prefix CTWORKER_ that tasks inherit: the path of the ctworker
// program, and a list of the settings that a ctworker started by a task must ignore.
var keptVars = []string{"CTWORKER_BIN", "CTWORKER_OUTER_SETTINGS"}

// stripEngineVars removes the variables with the prefix CTWORKER_, except keptVars. If this program
// runs as a task of another ctworker, that ctworker has set these variables for this program only,
// and not for the tasks that this program runs. If a variable occurs several times, only its last value is kept, as in
// os/exec, because some programs would read the first value and others the last.
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

// StopSignals are channels that end a run or a task early. A signal is sent by closing its channel.
// A nil channel never sends the signal.
type StopSignals struct {
	// Terminate sends SIGTERM to running tasks, and SIGKILL after the kill delay.
	Terminate <-chan struct{}
	// Kill sends SIGKILL to running tasks.
	Kill <-chan struct{}
	// LeaseLost sends SIGKILL to the task, because the task has lost its lease.
	LeaseLost <-chan struct{}
	// NoNewTasks prevents further tasks from starting.
	NoNewTasks <-chan struct{}
	// NoResults makes a Pool release the jobs whose results it cannot send to RunConfig.Output,
	// because no goroutine receives from Output any more.
	NoResults <-chan struct{}
}

// Run runs one task and waits until it ends. If a process cannot be started for a reason that does
// not depend on the task, Run returns an error, for example a *StartError. In that case, the task
// has not run.
func (c *Command) Run(task Task, signals StopSignals) (TaskResult, error) {
	argv, err := c.argv(task)
	if err != nil {
		if _, missing := errors.AsType[*missingKeyError](err); missing && c.opts.RequireKeys {
			return TaskResult{}, fmt.Errorf("task %q: %w: correct the placeholder, or the task; if only some tasks have the key, use --allow-missing-keys", task.ID, err)
		}
		return TaskResult{Kind: outcome.Exception, Exception: err.Error()}, nil
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
			return TaskResult{Kind: outcome.Interrupted}, nil
		case <-signals.Terminate:
			return TaskResult{Kind: outcome.Interrupted}, nil
		case <-signals.Kill:
			return TaskResult{Kind: outcome.Interrupted}, nil
		case <-signals.LeaseLost:
			return TaskResult{Kind: outcome.LeaseLost}, nil
		}
	}
}

// If a process cannot be started because the machine is short of a resource, such as memory or
// descriptors, the start is repeated with exponential backoff until maxRetryTime has passed. Other
// tasks may end meanwhile and free the resource.
const (
	initialRetryDelay = 20 * time.Millisecond
	maxRetryDelay     = time.Second
	maxRetryTime      = 30 * time.Second
)

// shortageError is returned if a process could not be started within maxRetryTime because the
// machine was short of a resource.
type shortageError struct{ err error }

// Error returns the operating system's error, and what the user can do.
func (e *shortageError) Error() string {
	todo := "run fewer tasks at once, or use a larger machine"
	switch {
	case errors.Is(e.err, syscall.EMFILE), errors.Is(e.err, syscall.EBADF):
		todo = "raise the limit on open files (ulimit -n), or run fewer tasks at once"
	case errors.Is(e.err, syscall.EAGAIN):
		todo = "raise the limit on processes (ulimit -u, or pids.max of the cgroup), or run fewer tasks at once"
	case errors.Is(e.err, syscall.ETXTBSY):
		todo = "another process is still writing the program's file: start ctworker when the file is complete"
	}
	return fmt.Sprintf("no process could be started for %v: %v: %s", maxRetryTime, e.err, todo)
}

// Unwrap returns the operating system's error.
func (e *shortageError) Unwrap() error { return e.err }

// isShortage reports whether err means that a resource is temporarily short.
func isShortage(err error) bool {
	for _, shortage := range []error{
		syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE,
		syscall.EBADF,   // returned by Go when dup3(2) in the new process exceeds the limit on open files
		syscall.ETXTBSY, // another process is still writing the program's file
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

// Running returns the running tasks, those that have run the longest first.
func (c *Command) Running() []RunningTask { return c.tracker.Running() }

// runOnce runs a task. It does not try again if the start fails. It does not set
// TaskResult.Elapsed.
func (c *Command) runOnce(task Task, argv []string, signals StopSignals) (TaskResult, error) {
	std, err := c.openStdio(task)
	if err != nil {
		return TaskResult{}, err
	}
	defer std.finish()
	p, err := c.launcher.Start(Spec{
		Path: c.path, Args: argv, Files: c.files(std), MemoryLimit: c.opts.MemoryLimit,
		Env: append(c.env[:len(c.env):len(c.env)],
			"CTWORKER_TASK_ID="+task.ID,
			"CTWORKER_ATTEMPT="+strconv.Itoa(task.Attempt),
			"CTWORKER_SLOT="+strconv.Itoa(task.Slot)),
	})
	std.closeChildFDs()
	if err != nil {
		return TaskResult{}, err
	}
	c.tracker.Add(RunningTask{ID: task.ID, Attempt: task.Attempt, Slot: task.Slot, StartedAt: p.Started(), Pid: p.Pid()})
	defer c.tracker.Remove(task.Slot)
	kind := outcome.Completed
	if !p.waitFast(min(fastPathTime, c.opts.MaxRuntime)) {
		std.startReading()
		kind = waitOrStop(p, signals, c.opts.MaxRuntime, c.opts.KillDelay)
		if !isClosed(p.Done()) {
			// The process did not exit after SIGKILL, because it is blocked in the kernel. The
			// goroutine of Process.reap continues to wait for the exit.
			return TaskResult{Kind: kind}, nil
		}
	}
	std.finish()
	if err := errors.Join(std.stdout.lineErr, std.stderr.lineErr); err != nil {
		return TaskResult{}, fmt.Errorf("callback CommandOptions.Stderr or Output: %w", err)
	}
	exit := p.Exit()
	result := TaskResult{Kind: kind}
	if kind == outcome.Completed {
		result = commandResult(exit, std.stdout, std.resultFD)
	}
	result.CPU, result.PeakMemory = exit.CPU, exit.PeakMemory
	if kind := result.Kind; kind == outcome.Exited || kind == outcome.TimedOut {
		result.StderrLine = std.stderrLine.text()
	}
	return result, nil
}

// fastPathTime is how long Run waits for the exit of a process before Run starts goroutines that
// read the output. During that time, the output stays in the pipes. Most short tasks end within
// that time, and need no goroutines.
const fastPathTime = 5 * time.Millisecond

// files returns the descriptors that a process inherits. The index of a descriptor in the slice is
// its number in the process.
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

// closedFD marks an entry of Spec.Files. In the process, the descriptor whose number is the index
// of this entry is closed.
const closedFD = ^uintptr(0)

// sigkillTimeout is how long to wait for the exit of a process after SIGKILL. The exit can take
// longer only while the process is blocked in the kernel, for example by a network file system.
const sigkillTimeout = 10 * time.Second

// waitOrStop waits until the process exits. After maxRuntime, or at a stop signal, it terminates
// the process. It returns the reason for the termination, or Completed if the process exited on its
// own.
func waitOrStop(p *Process, signals StopSignals, maxRuntime, killDelay time.Duration) outcome.Kind {
	timer := time.NewTimer(maxRuntime - time.Since(p.Started()))
	defer timer.Stop()
	kind := outcome.Completed
	select {
	case <-p.Done():
	case <-timer.C:
		kind = outcome.TimedOut
	case <-signals.Terminate:
		kind = outcome.Interrupted
	case <-signals.Kill:
		kind = outcome.Interrupted
		killDelay = 0
	case <-signals.LeaseLost:
		kind = outcome.LeaseLost
		killDelay = 0
	}
	if p.hasExited() { // on its own, at the same time as the signal
		<-p.Done()
		return outcome.Completed
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

// stdinLine returns the line that a process reads from its standard input.
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
