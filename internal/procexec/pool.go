package procexec

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/internal/taskproto"
)

// PoolOptions configures a Pool.
type PoolOptions struct {
	// Argv is the command that starts a worker process. The command must use the task protocol.
	// Placeholders in Argv are not replaced. If ForkServer is set, Argv is not used.
	Argv []string
	// ForkServer forks the processes. If ForkServer is nil, Argv starts them.
	ForkServer *ForkServer
	// Env is the environment of processes started by Argv. Defaults to the environment of this
	// program.
	Env []string
	// WorkerData describes the worker to the processes. It is the JSON object "worker" in the first
	// line that each process receives. Defaults to {}.
	WorkerData []byte
	// MaxRuntime is the maximum run time of a task. Defaults to 10 minutes.
	MaxRuntime time.Duration
	// KillDelay is the time between SIGTERM and SIGKILL. It is also the time that a process has to
	// exit after its last task. Defaults to 5s; NoKillDelay means that SIGKILL is sent immediately.
	KillDelay time.Duration
	// StartTimeout limits three waits: for a new process to become ready, for it to claim its first
	// task (announce that it starts the task), and for it to return a task that was taken back.
	// When a wait takes longer, the process is killed. Defaults to 60s.
	StartTimeout time.Duration
	// MaxTasks is the number of tasks after which a process is replaced. 0 means no limit. If it is
	// 1, each task has its own process. The TaskResult is then reported when the process has
	// exited, and includes CPU time and peak memory.
	MaxTasks int
	// MemoryLimit is the maximum size of the address space, in bytes, of a process started by Argv
	// (Linux). 0 means no limit. If ForkServer is set, MemoryLimit has no effect: use
	// ForkServerConfig.MemoryLimit.
	MemoryLimit int64
	// MaxResult is the maximum size of a result, in bytes. Defaults to 16 MiB.
	MaxResult int64
	// Shutdown and Termination are passed to processes started by Argv. May be nil.
	Shutdown, Termination *Notification
	// Output returns the TaskOutput that receives the output of one attempt of a task. Task.ID is
	// empty for output that a process prints while it runs no task. If Output is nil, the processes
	// print to the standard output and error of this program, or of the fork server. Output and
	// Streams are for use in this module only.
	Output func(Task) TaskOutput
	// Streams are the streams that Output receives. The processes share the other streams with this
	// program.
	Streams []Stream
	// Log receives warnings about errors that do not end the run.
	Log zerolog.Logger
}

// Validate returns an error that lists every invalid field, or nil.
func (o PoolOptions) Validate() error {
	errs := []error{
		optcheck.NotNegative("MaxRuntime", o.MaxRuntime), optcheck.NotNegative("KillDelay", o.KillDelay),
		optcheck.NotNegative("StartTimeout", o.StartTimeout), optcheck.NotNegative("MaxTasks", o.MaxTasks),
		optcheck.NotNegative("MemoryLimit", o.MemoryLimit), optcheck.NotNegative("MaxResult", o.MaxResult),
	}
	if o.ForkServer == nil {
		errs = append(errs, checkCommand(o.Argv))
	}
	return optcheck.Join("procexec.PoolOptions", errs...)
}

// A Pool runs tasks in worker processes, one per slot. It starts the process of a slot when the
// slot gets its first task, and sends the process task after task over the task protocol. The
// function Run runs jobs in a Pool.
type Pool struct {
	launcher *Launcher
	opts     PoolOptions
	path     string
	env      []string
	null     *os.File
	// ask holds the function that asks the event loop for the running tasks. It is nil before the
	// run.
	ask atomic.Pointer[func(context.Context) ([]RunningTask, error)]
}

// maxStartFailures is how many consecutive starts, counted over all slots, may fail before the run
// ends with an error. If that many fail, the command is probably wrong.
const maxStartFailures = 5

// NewPool returns a Pool that starts its processes with l. It returns an error if opts are invalid,
// or if the program is not found in PATH. Close the pool when its run has ended.
func NewPool(l *Launcher, opts PoolOptions) (*Pool, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.MaxRuntime == 0 {
		opts.MaxRuntime = 10 * time.Minute
	}
	opts.KillDelay = killDelay(opts.KillDelay)
	if opts.StartTimeout == 0 {
		opts.StartTimeout = time.Minute
	}
	if opts.MaxResult == 0 {
		opts.MaxResult = 16 << 20
	}
	if opts.Env == nil {
		opts.Env = os.Environ()
	}
	p := &Pool{launcher: l, opts: opts}
	if opts.ForkServer != nil {
		return p, nil
	}
	var err error
	if p.path, err = findProgram(opts.Argv[0]); err != nil {
		return nil, err
	}
	p.env = stripEngineVars(opts.Env)
	p.env = append(p.env, taskproto.FDVar+"="+strconv.Itoa(fdTasks))
	if p.usesPermits() {
		p.env = append(p.env, taskproto.ClaimFDVar+"="+strconv.Itoa(fdPermits))
	}
	p.env = append(p.env, notificationEnv(opts.Shutdown, opts.Termination, fdPoolShutdown, fdPoolTermination)...)
	if p.null, err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	return p, nil
}

// CheckNoPlaceholders returns an error if argv contains a placeholder such as {task_id}. The
// processes of a Pool start before their tasks are known, so a Pool cannot replace placeholders.
func CheckNoPlaceholders(argv []string) error {
	for _, arg := range argv {
		if parsePlaceholders(arg).parts != nil {
			return fmt.Errorf("argument %q contains a placeholder, which --isolation reuse does not allow: "+
				"the command is started before it has a task, and reads its tasks from the descriptor CTWORKER_FD; "+
				"omit --isolation reuse to start the command once per task", arg)
		}
	}
	return nil
}

// Close releases the pool's descriptor. Run must have returned.
func (p *Pool) Close() error {
	if p.null == nil {
		return nil
	}
	return p.null.Close()
}

// The descriptors that a worker process inherits in addition to its standard streams.
const (
	fdTasks           = 3
	fdPermits         = 4
	fdPoolShutdown    = 5
	fdPoolTermination = 6
	fdRing            = 7
)

// notificationEnv returns the environment variables from which a process learns the descriptors and
// files of the notifications.
func notificationEnv(shutdown, termination *Notification, shutdownFD, terminationFD int) (env []string) {
	if shutdown != nil {
		env = append(env, taskproto.ShutdownFDVar+"="+strconv.Itoa(shutdownFD), taskproto.ShutdownFileVar+"="+shutdown.Path())
	}
	if termination != nil {
		env = append(env, taskproto.TerminationFDVar+"="+strconv.Itoa(terminationFD), taskproto.TerminationFileVar+"="+termination.Path())
	}
	return env
}

// usesPermits reports whether the pool may send a process further tasks while the process runs a
// task. The process then needs a permit to start each task.
func (p *Pool) usesPermits() bool { return p.opts.MaxTasks != 1 }

// preforks reports whether each slot forks its next process while its current process runs its only
// task.
func (p *Pool) preforks() bool { return p.opts.ForkServer != nil && !p.usesPermits() }

// process is a process of a pool, started by the Launcher or forked by the fork server.
type process interface {
	// Terminate sends SIGTERM to the process group. See Process.Terminate.
	Terminate(grace time.Duration)
	Kill()
	// Done returns a channel that is closed when the process has exited and has been reaped.
	Done() <-chan struct{}
	Exit() Exit
	Pid() int
}

// start starts a process for a slot. The process inherits the descriptors in child that are not -1,
// and those in output, one for each of PoolOptions.Streams. The caller closes these descriptors.
func (p *Pool) start(slotIndex int, child taskproto.ChildFDs, output []int) (process, error) {
	fdOr := func(n *Notification) uintptr {
		if n == nil {
			return closedFD
		}
		return n.FD()
	}
	permitsFile := closedFD
	if child.Permits >= 0 {
		permitsFile = uintptr(child.Permits)
	}
	env, ringFile := append(p.env[:len(p.env):len(p.env)], taskproto.SlotVar+"="+strconv.Itoa(slotIndex)), closedFD
	if child.Ring >= 0 {
		env, ringFile = append(env, taskproto.RingFDVar+"="+strconv.Itoa(fdRing)), uintptr(child.Ring)
	}
	files := []uintptr{
		p.null.Fd(), uintptr(Stdout), uintptr(Stderr), uintptr(child.Socket), permitsFile,
		fdOr(p.opts.Shutdown), fdOr(p.opts.Termination), ringFile,
	}
	for i, fd := range output {
		files[p.opts.Streams[i]] = uintptr(fd)
	}
	proc, err := p.launcher.Start(Spec{Path: p.path, Args: p.opts.Argv, MemoryLimit: p.opts.MemoryLimit, Env: env, Files: files})
	if err != nil {
		return nil, err
	}
	return proc, nil
}

// name returns the name that log messages and errors use for the pool's processes.
func (p *Pool) name() string {
	if p.opts.ForkServer != nil {
		return p.opts.ForkServer.Hello.Program
	}
	name := p.opts.Argv[0]
	if len(p.opts.Argv) > 1 {
		name += " " + p.opts.Argv[1]
	}
	return name
}

// lineLimit returns the maximum length of a reply, in bytes. It adds 64 KiB to the maximum size of
// a result, for the task id and the other fields.
func (p *Pool) lineLimit() int64 { return p.opts.MaxResult + 64<<10 }

// A StartFailedError is returned by Run if several consecutive starts of worker processes failed.
type StartFailedError struct {
	// Command is the command line, shortened. Reason is why the last start failed.
	Command, Reason string
	// Times is the number of consecutive failed starts.
	Times int
}

// Error returns the reason of the last failure, and what the user can do.
func (e *StartFailedError) Error() string {
	return fmt.Sprintf("%d consecutive starts of the worker process %q failed, the last one because %s; "+
		"see docs/protocol.md for how a worker process starts, and check it with \"ctworker protocol-check -- COMMAND\"", e.Times, e.Command, e.Reason)
}

// exitText describes how a process exited, for messages.
func exitText(e Exit) string {
	if e.Code < 0 {
		return fmt.Sprintf("the process was killed by signal %d (%v)", -e.Code, syscall.Signal(-e.Code))
	}
	return fmt.Sprintf("the process exited with code %d", e.Code)
}
