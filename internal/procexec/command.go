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

	"github.com/ctworker/ctworker/internal/rawjson"
)

// CommandOptions say how a Command runs.
type CommandOptions struct {
	// Argv is the command and its arguments, in which {task_id} and {data.KEY}
	// are replaced. The command itself is looked up in PATH once.
	Argv []string
	// Env is the environment that every task gets. Default: this process's.
	Env []string
	// MaxRuntime bounds one task; default 10 minutes.
	MaxRuntime time.Duration
	// KillDelay is the time between SIGTERM and SIGKILL; default 5 s, and
	// below 0 none.
	KillDelay time.Duration
	// MemoryLimit bounds the address space of each process in bytes (Linux);
	// 0: no bound.
	MemoryLimit int64
	// MaxResult bounds a result in bytes; default 16 MiB.
	MaxResult int64
	// Shutdown and Termination are handed to every task. May be nil.
	Shutdown, Termination *Notification
	// Stderr receives each line that a task writes to its standard error, without
	// the line ending. It is called from a goroutine of the task. The line is valid
	// during the call only. A line of more than 64 KiB is passed in pieces that end
	// between characters; continued is true for every piece after the first. If Stderr
	// is nil, the lines are discarded.
	Stderr func(task Task, line []byte, continued bool)
}

// A Command runs each task as a process of its own. It may be used from several
// goroutines, and owns nothing.
type Command struct {
	launcher *Launcher
	opts     CommandOptions
	path     string
	args     []placeholders
	env      []string
}

// NewCommand checks opts and finds the command. The error says what is wrong
// with the command line.
func NewCommand(l *Launcher, opts CommandOptions) (*Command, error) {
	if len(opts.Argv) == 0 || opts.Argv[0] == "" {
		return nil, errors.New("no command was given")
	}
	if parseTemplate(opts.Argv[0]).parts != nil {
		return nil, fmt.Errorf("the command %q holds a placeholder: which program is run may not depend on a task; placeholders are for arguments", opts.Argv[0])
	}
	path, err := exec.LookPath(opts.Argv[0])
	if err != nil {
		return nil, fmt.Errorf("the command cannot be run: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("the command cannot be run: %w", err)
	}
	if opts.Env == nil {
		opts.Env = os.Environ()
	}
	if opts.MaxRuntime <= 0 {
		opts.MaxRuntime = 10 * time.Minute
	}
	if opts.KillDelay == 0 {
		opts.KillDelay = 5 * time.Second
	}
	if opts.MaxResult <= 0 {
		opts.MaxResult = 16 << 20
	}
	if opts.Stderr == nil {
		opts.Stderr = func(Task, []byte, bool) {}
	}
	c := &Command{launcher: l, opts: opts, path: path}
	for _, arg := range opts.Argv {
		c.args = append(c.args, parseTemplate(arg))
	}
	c.env = append(stripEngineVars(opts.Env), "CTWORKER_RESULT_FD="+strconv.Itoa(fdResult))
	c.env = append(c.env, notificationEnv(opts.Shutdown, opts.Termination, fdShutdown, fdTermination)...)
	return c, nil
}

// The descriptors that a command finds beside the standard streams.
const (
	fdResult      = 3
	fdShutdown    = 4
	fdTermination = 5
)

// keptVars are the variables of ctworker that tasks inherit: the path of the ctworker program, and
// the list of the settings that belong to the outer run.
var keptVars = []string{"CTWORKER_BIN", "CTWORKER_OUTER_SETTINGS"}

// withoutOurs leaves out what an engine above this one has set, as a task may
// itself run ctworker; and of a variable that stands twice, the first, as a
// program reads the first and whoever appended the second meant it.
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

// Ends are what ends a task early. A nil channel never does.
type StopSignals struct {
	// Term: SIGTERM, and SIGKILL after the kill delay.
	Terminate <-chan struct{}
	// Kill: SIGKILL.
	Kill <-chan struct{}
	// Drop: SIGKILL; the task is no longer ours.
	LeaseLost <-chan struct{}
	// Stop: a task that could not be started yet is not started any more.
	NoNewTasks <-chan struct{}
}

// Run runs one task to its end. The error, a *StartError or of the operating
// system, says that no process could be started for a reason that is not the
// task's; the task has not run then.
func (c *Command) Run(task Task, signals StopSignals) (TaskResult, error) {
	argv, err := c.argv(task)
	if err != nil {
		return TaskResult{Kind: Failed, Exception: err.Error()}, nil
	}
	began := time.Now()
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		report, err := c.runOnce(task, argv, signals)
		switch {
		case err == nil:
			report.Elapsed = time.Since(began)
			return report, nil
		case errors.Is(err, syscall.E2BIG):
			return failed("the command's arguments and environment are too long for this system with this task's values in them; "+
				"let the command read the task from its standard input instead (%v)", err), nil
		case !isShortage(err):
			return TaskResult{}, err
		case time.Since(began) > retryFor:
			return TaskResult{}, &shortageError{err}
		}
		c.launcher.warnShort(err)
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

// A start that fails because the machine is short of something is tried again
// for a while: other tasks end and give it back.
const (
	firstRetry = 20 * time.Millisecond
	lastRetry  = time.Second
	retryFor   = 30 * time.Second
)

// shortageError is what the machine has been short of for too long.
type shortageError struct{ err error }

// Error says what to do about it.
func (e *shortageError) Error() string {
	todo := "run fewer tasks at once, or use a larger machine"
	switch {
	case errors.Is(e.err, syscall.EMFILE), errors.Is(e.err, syscall.EBADF):
		todo = "raise the limit on open files (ulimit -n), or run fewer tasks at once"
	case errors.Is(e.err, syscall.EAGAIN):
		todo = "raise the limit on processes (ulimit -u, or pids.max of the cgroup), or run fewer tasks at once"
	case errors.Is(e.err, syscall.ETXTBSY):
		todo = "some process is still writing the command's file"
	}
	return fmt.Sprintf("%v, for %v now: %s", e.err, retryFor, todo)
}

// Unwrap returns the operating system's error.
func (e *shortageError) Unwrap() error { return e.err }

// isShortage reports whether err may pass by itself.
func isShortage(err error) bool {
	for _, shortage := range []error{
		syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE,
		syscall.EBADF,   // of dup3(2) beyond the limit on open files, as Go starts a process
		syscall.ETXTBSY, // the program is still being written
	} {
		if errors.Is(err, shortage) {
			return true
		}
	}
	return false
}

func (c *Command) argv(task Task) ([]string, error) {
	argv := make([]string, len(c.args))
	for i, t := range c.args {
		var err error
		if argv[i], err = t.expand(task); err != nil {
			return nil, err
		}
	}
	if strings.IndexByte(task.ID, 0) >= 0 {
		return nil, errors.New("the task_id holds a NUL character, which CTWORKER_TASK_ID cannot")
	}
	return argv, nil
}

func (c *Command) runOnce(task Task, argv []string, signals StopSignals) (TaskResult, error) {
	io, err := c.openStreams(task)
	if err != nil {
		return TaskResult{}, err
	}
	defer io.finish()
	p, err := c.launcher.Start(Spec{
		Path: c.path, Args: argv, Files: c.files(io), Slot: task.Slot, MemoryLimit: c.opts.MemoryLimit,
		Env: append(c.env[:len(c.env):len(c.env)],
			"CTWORKER_TASK_ID="+task.ID,
			"CTWORKER_ATTEMPT="+strconv.Itoa(task.Attempt),
			"CTWORKER_SLOT="+strconv.Itoa(task.Slot)),
	})
	io.handedOver()
	if err != nil {
		return TaskResult{}, err
	}
	end := Completed
	if !p.awaitBriefly(min(brief, c.opts.MaxRuntime)) {
		io.follow()
		end = await(p, signals, c.opts.MaxRuntime, max(c.opts.KillDelay, 0))
		if !isClosed(p.Done()) {
			// Not even SIGKILL has ended it: it hangs in the kernel. The
			// Launcher goes on waiting for it.
			return TaskResult{Kind: end}, nil
		}
	}
	io.finish()
	if err := io.stderr.fault; err != nil {
		return TaskResult{}, fmt.Errorf("pass on the task's standard error: %w", err)
	}
	exit := p.Exit()
	report := TaskResult{Kind: end}
	if end == Completed {
		report = reportOf(exit, io.stdout, io.told)
	}
	report.CPU, report.PeakMemory = exit.CPU, exit.PeakMemory
	return report, nil
}

// brief is how long a task is waited for before anything is set up for a long
// one: its output waits in the pipes for so long, and a shutdown is not seen.
const brief = 5 * time.Millisecond

// files are the descriptors of a process, in their order.
func (c *Command) files(io *streams) []uintptr {
	files := make([]uintptr, 0, fdTermination+1)
	for _, fd := range io.theirs {
		files = append(files, uintptr(fd))
	}
	for _, n := range []*Notification{c.opts.Shutdown, c.opts.Termination} {
		fd := noFile
		if n != nil {
			fd = n.FD()
		}
		files = append(files, fd)
	}
	return files
}

// noFile leaves a descriptor of the process closed.
const noFile = ^uintptr(0)

// lastWait bounds the wait for a process that was sent SIGKILL.
const lastWait = 10 * time.Second

// await waits for the process to end and ends it where it has to be. It returns
// Finished where it ended by itself.
func await(p *Process, signals StopSignals, maxRuntime, killDelay time.Duration) ExitKind {
	timer := time.NewTimer(maxRuntime - time.Since(p.Started()))
	defer timer.Stop()
	end := Completed
	select {
	case <-p.Done():
	case <-timer.C:
		end = TimedOut
	case <-signals.Terminate:
		end = Interrupted
	case <-signals.Kill:
		end = Interrupted
		killDelay = 0
	case <-signals.LeaseLost:
		end = LeaseLost
		killDelay = 0
	}
	if p.hasEnded() { // by itself, whatever else has come meanwhile
		<-p.Done()
		return Completed
	}
	if killDelay > 0 {
		p.Terminate(killDelay)
		timer.Reset(killDelay)
		select {
		case <-p.Done():
			return end
		case <-timer.C:
		case <-signals.Kill:
		case <-signals.LeaseLost:
		}
	}
	p.Kill()
	timer.Reset(lastWait)
	select {
	case <-p.Done():
	case <-timer.C:
	}
	return end
}

// taskLine is the task as a command reads it.
func taskLine(task Task) []byte {
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
