// Package procexec runs tasks in processes: it starts, terminates and cleans up after them.
//
//	NewLauncher ─▶ NewCommand ─▶ stages.Command      one process per task
//	            └▶ NewPool ────▶ stages.ExecutePool  worker processes that run task after task
//	NewNotification ─▶ PoolOptions, CommandOptions   "the worker is shutting down"
//
// A Launcher starts processes, each in a process group of its own. A Command starts one process
// per task: the task is a JSON object on its standard input, and its result is what it writes to
// its standard output. A Pool keeps one process per slot and sends it task after task over the
// task protocol of docs/protocol.md. Package stages connects both to the pipeline.
//
// # The guarantee
//
// When a task ends, everything it started ends too: the rest of its process group is killed
// before the process is reaped, and on Linux processes that left the group are adopted and
// killed. If this process dies, even by SIGKILL, its tasks die. No zombie process, descriptor or
// goroutine is left behind.
//
// Tasks run with the user's own rights: this is not a sandbox. macOS and the BSDs have no
// parent-death signal, no subreaper and no limit on the memory of another process. There a task
// that leaves its process group is not found, and CommandOptions.MemoryLimit is an error.
package procexec

import "github.com/ctworker/ctworker/internal/procexec"

// The names of the files that notifications create in their directory.
const (
	ShutdownFile    = procexec.ShutdownFile
	TerminationFile = procexec.TerminationFile
)

// NoKillDelay is a KillDelay that sends SIGKILL immediately.
const NoKillDelay = procexec.NoKillDelay

// ErrClosed is returned by a Launcher that has been closed.
var ErrClosed = procexec.ErrClosed

type (
	// A Launcher starts processes, and kills what is left of them when it is closed. Its
	// methods are safe for concurrent use:
	//
	//	func (*Launcher) Signal(sig syscall.Signal) // sends sig to all process groups
	//	func (*Launcher) Close() error
	Launcher = procexec.Launcher
	// Options configures a Launcher.
	Options = procexec.Options

	// A Command runs one process per task. Pass it to stages.Command. It is safe for
	// concurrent use.
	Command = procexec.Command
	// CommandOptions configures a Command.
	CommandOptions = procexec.CommandOptions

	// A Pool runs tasks in processes that stay, one per slot. Pass it to stages.ExecutePool,
	// and close it when the run has ended:
	//
	//	func (*Pool) Close() error
	Pool = procexec.Pool
	// PoolOptions configures a Pool.
	PoolOptions = procexec.PoolOptions

	// A Task is one task as a process receives it.
	Task = procexec.Task

	// A Notification notifies all running tasks at once, for example of the shutdown of the
	// worker: a descriptor that tasks inherit becomes readable, and a file appears.
	//
	//	func (*Notification) Raise() error // notifies the tasks; further calls do nothing
	//	func (*Notification) Close() error
	Notification = procexec.Notification

	// A StartError is returned if a process cannot be started.
	StartError = procexec.StartError
	// A StartFailedError is returned if several processes of a Pool in a row did not become
	// ready.
	StartFailedError = procexec.StartFailedError
)

// NewLauncher returns a Launcher. Close it when no process is needed any more.
func NewLauncher(opts Options) (*Launcher, error) { return procexec.NewLauncher(opts) }

// NewCommand checks opts, finds the program in PATH, and returns a Command that starts its
// processes with l.
func NewCommand(l *Launcher, opts CommandOptions) (*Command, error) {
	return procexec.NewCommand(l, opts)
}

// NewPool checks opts, finds the program in PATH, and returns a Pool that starts its processes
// with l. Close the pool when its run has ended.
func NewPool(l *Launcher, opts PoolOptions) (*Pool, error) { return procexec.NewPool(l, opts) }

// NewNotification creates a Notification whose file is called name and appears in dir, which
// tasks must be able to read. Close it after the last task.
func NewNotification(dir, name string) (*Notification, error) {
	return procexec.NewNotification(dir, name)
}

// RunGuard runs the guard of Options.Guard and does not return, if this process is a guard.
// Otherwise it returns at once. Call it first in main.
func RunGuard() { procexec.RunGuard() }
