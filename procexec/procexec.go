// Package procexec runs tasks in processes. It starts the processes, terminates them, and kills the
// processes that they leave behind.
//
//	NewLauncher ─▶ NewCommand ─▶ stages.Command      one process per task
//	            └▶ NewPool ────▶ stages.ExecutePool  worker processes that run task after task
//	NewNotification ─▶ PoolOptions, CommandOptions   "the worker is shutting down"
//
// A Launcher starts each process in its own process group. A Command starts one process per task.
// The process reads the task, a JSON object, from its standard input, and writes the result to its
// standard output. A Pool keeps one process per slot and sends it task after task over the task
// protocol of docs/protocol.md. Package stages connects both to the pipeline.
//
// # The guarantee
//
// When a task ends, everything that it started is killed: the other processes of its process group,
// and on Linux also processes that have left the group. If this program dies, even by SIGKILL, its
// tasks are killed. No zombie process, descriptor or goroutine is left behind.
//
// # Limits
//
// This package is not a sandbox: tasks run with the rights of the user. On macOS and the BSDs, a
// process that leaves the process group of its task is not killed, and setting
// CommandOptions.MemoryLimit is an error. On these systems, tasks survive if this program dies and
// Options.Guard is not set.
package procexec

import "github.com/ctworker/ctworker/internal/procexec"

// The names that ctworker gives to the files of its two notifications; see NewNotification.
const (
	ShutdownFile    = procexec.ShutdownFile
	TerminationFile = procexec.TerminationFile
)

// NoKillDelay is a value for KillDelay. It means that SIGKILL is sent immediately, without SIGTERM.
const NoKillDelay = procexec.NoKillDelay

type (
	// A Launcher starts processes. When it is closed, it kills the processes that still run. Its
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

	// A Pool runs tasks in worker processes, one per slot. A worker process runs task after task.
	// Pass the Pool to stages.ExecutePool, and close it when the run has ended:
	//
	//	func (*Pool) Close() error
	Pool = procexec.Pool
	// PoolOptions configures a Pool.
	PoolOptions = procexec.PoolOptions

	// A Task is one task, as it is passed to a process.
	Task = procexec.Task

	// A Notification notifies all running tasks of an event that happens once, for example the
	// shutdown of the worker. A descriptor that the tasks inherit becomes readable, and a file
	// appears.
	//
	//	func (*Notification) Raise() error // notifies the tasks; further calls do nothing
	//	func (*Notification) Close() error
	Notification = procexec.Notification

	// A StartError is returned if a process cannot be started.
	StartError = procexec.StartError
	// A StartFailedError is returned if several consecutive starts of a Pool's processes failed.
	StartFailedError = procexec.StartFailedError
)

// NewLauncher returns a Launcher. Close the Launcher when its processes are not needed any more.
func NewLauncher(opts Options) (*Launcher, error) { return procexec.NewLauncher(opts) }

// NewCommand returns a Command that starts its processes with l. It returns an error if opts are
// invalid, or if the program is not found in PATH.
func NewCommand(l *Launcher, opts CommandOptions) (*Command, error) {
	return procexec.NewCommand(l, opts)
}

// NewPool returns a Pool that starts its processes with l. It returns an error if opts are invalid,
// or if the program is not found in PATH. Close the Pool when its run has ended.
func NewPool(l *Launcher, opts PoolOptions) (*Pool, error) { return procexec.NewPool(l, opts) }

// NewNotification returns a Notification. Raise will create a file called name in the directory
// dir. Tasks must be able to read dir. The path dir must be absolute. Close the Notification after
// the last task.
func NewNotification(dir, name string) (*Notification, error) {
	return procexec.NewNotification(dir, name)
}

// RunGuard runs the guard and does not return, if a Launcher has started this process as its guard.
// In any other process, it returns immediately. Call it first in main; see Options.Guard.
func RunGuard() { procexec.RunGuard() }
