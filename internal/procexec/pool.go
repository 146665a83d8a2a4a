package procexec

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// PoolOptions say how a Pool's processes come about and what they may do.
type PoolOptions struct {
	// Slots is how many processes there are at once at most. Default 1.
	Slots int
	// Argv starts a process, which speaks the task protocol. Its arguments are
	// taken as they are.
	Argv []string
	// Host, if set, forks the processes in place of Argv.
	ForkServer *ForkServer
	// Env is the environment of processes started by Argv. Default: this
	// process's.
	Env []string
	// WorkerData is the JSON object that hello calls "worker".
	WorkerData []byte
	// MaxRuntime bounds one task; default 10 minutes.
	MaxRuntime time.Duration
	// KillDelay is the time between SIGTERM and SIGKILL, and what a process has
	// to exit by itself; default 5 s, and below 0 none.
	KillDelay time.Duration
	// StartTimeout is the maximum time for each of these: until a process is ready,
	// until it claims its first task, and until it returns a task that was taken back.
	// A process that takes longer is killed. Defaults to 60 s.
	StartTimeout time.Duration
	// MaxTasks is after how many tasks a process is replaced; 0: never. With 1
	// each task has a process of its own, and its Report comes when that has
	// ended, with its use of CPU and memory.
	MaxTasks int
	// MemoryLimit bounds the address space of processes started by Argv, in
	// bytes (Linux); 0: no bound. A Host limits its own.
	MemoryLimit int64
	// MaxResult bounds a result in bytes; default 16 MiB.
	MaxResult int64
	// Shutdown and Termination are handed to processes started by Argv. May be
	// nil.
	Shutdown, Termination *Notification
	// Log receives what went wrong and is no reason to end.
	Log zerolog.Logger
}

// A Pool runs tasks in worker processes, one a slot: each is started when it has
// something to do, and handed task after task over the task protocol. Run uses
// it.
type Pool struct {
	launcher *Launcher
	opts     PoolOptions
	path     string
	env      []string
	null     *os.File
}

// startFailures is how many starts may fail in a row, in all slots.
const startFailures = 5

// NewPool checks opts and finds the command; Close the pool. The error says what
// is wrong with the command line.
func NewPool(l *Launcher, opts PoolOptions) (*Pool, error) {
	if opts.Slots <= 0 {
		opts.Slots = 1
	}
	if opts.MaxRuntime <= 0 {
		opts.MaxRuntime = 10 * time.Minute
	}
	if opts.KillDelay == 0 {
		opts.KillDelay = 5 * time.Second
	}
	opts.KillDelay = max(opts.KillDelay, 0)
	if opts.StartTimeout <= 0 {
		opts.StartTimeout = time.Minute
	}
	if opts.MaxResult <= 0 {
		opts.MaxResult = 16 << 20
	}
	if opts.Env == nil {
		opts.Env = os.Environ()
	}
	p := &Pool{launcher: l, opts: opts}
	if opts.ForkServer != nil {
		return p, nil
	}
	if len(opts.Argv) == 0 || opts.Argv[0] == "" {
		return nil, errors.New("no command was given")
	}
	path, err := exec.LookPath(opts.Argv[0])
	if err != nil {
		return nil, fmt.Errorf("the command cannot be run: %w", err)
	}
	if p.path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("the command cannot be run: %w", err)
	}
	p.env = stripEngineVars(opts.Env)
	p.env = append(p.env, "CTWORKER_FD="+strconv.Itoa(fdTasks))
	if p.claims() {
		p.env = append(p.env, "CTWORKER_CLAIM_FD="+strconv.Itoa(fdClaim))
	}
	p.env = append(p.env, notificationEnv(opts.Shutdown, opts.Termination, fdPoolShutdown, fdPoolTermination)...)
	if p.null, err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	return p, nil
}

// CheckNoPlaceholders returns an error if an argument of the command of a worker process holds a
// placeholder, which whoever wrote it expects to be replaced.
func CheckNoPlaceholders(argv []string) error {
	for _, arg := range argv {
		if parseTemplate(arg).parts != nil {
			return fmt.Errorf("the argument %q holds a placeholder: with --isolation reuse a process is started before it has a task, "+
				"and reads its tasks from the descriptor CTWORKER_FD; leave out --isolation reuse to start the command once per task", arg)
		}
	}
	return nil
}

// Close releases what the pool holds. No Run may be under way.
func (p *Pool) Close() error {
	if p.null == nil {
		return nil
	}
	return p.null.Close()
}

// The descriptors that a worker process finds beside the standard streams.
const (
	fdTasks           = 3
	fdClaim           = 4
	fdPoolShutdown    = 5
	fdPoolTermination = 6
	fdRing            = 7
)

// noticeEnv tells a process of the notices.
func notificationEnv(shutdown, termination *Notification, shutdownFD, terminationFD int) (env []string) {
	if shutdown != nil {
		env = append(env, "CTWORKER_SHUTDOWN_FD="+strconv.Itoa(shutdownFD), "CTWORKER_SHUTDOWN_FILE="+shutdown.Path())
	}
	if termination != nil {
		env = append(env, "CTWORKER_TERMINATION_FD="+strconv.Itoa(terminationFD), "CTWORKER_TERMINATION_FILE="+termination.Path())
	}
	return env
}

// claims reports whether processes are given the pipe of claims: where each has
// one task, nothing is handed over ahead.
func (p *Pool) claims() bool { return p.opts.MaxTasks != 1 }

// forksAhead reports whether the next process of a slot is forked while the one before
// runs its only task.
func (p *Pool) forksAhead() bool { return p.opts.ForkServer != nil && !p.claims() }

// handle is a process of a pool, whoever started it.
type process interface {
	// Terminate sends SIGTERM to the group, Kill SIGKILL.
	Terminate(grace time.Duration)
	Kill()
	// Done is closed when the process has ended and has been reaped.
	Done() <-chan struct{}
	Exit() Exit
	Pid() int
}

// start starts a process for a slot, with its end of the socket, and of the pipe of
// claims and the shared memory, if not -1. It does not close them.
func (p *Pool) start(slotIndex, socket, claim, shared int) (process, error) {
	fdOr := func(n *Notification) uintptr {
		if n == nil {
			return noFile
		}
		return n.FD()
	}
	claimFile := noFile
	if claim >= 0 {
		claimFile = uintptr(claim)
	}
	env, sharedFile := append(p.env[:len(p.env):len(p.env)], "CTWORKER_SLOT="+strconv.Itoa(slotIndex)), noFile
	if shared >= 0 {
		env, sharedFile = append(env, "CTWORKER_RING_FD="+strconv.Itoa(fdRing)), uintptr(shared)
	}
	proc, err := p.launcher.Start(Spec{
		Path: p.path, Args: p.opts.Argv, Slot: slotIndex, MemoryLimit: p.opts.MemoryLimit, Env: env,
		Files: []uintptr{
			p.null.Fd(), 1, 2, uintptr(socket), claimFile,
			fdOr(p.opts.Shutdown), fdOr(p.opts.Termination), sharedFile,
		},
	})
	if err != nil {
		return nil, err
	}
	return proc, nil
}

// name is what the processes are called in messages.
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

// lineLimit is how long a reply may be: the largest result, the longest id that
// is likely, and the rest.
func (p *Pool) lineLimit() int64 { return p.opts.MaxResult + 64<<10 }

// StartFailedError says that processes of a Pool do not start.
type StartFailedError struct {
	// Command is the command, Reason what came of the last start.
	Command, Reason string
	// Times is how many starts have failed in a row.
	Times int
}

// Error says what to do.
func (e *StartFailedError) Error() string {
	return fmt.Sprintf("%d starts of %q in a row have failed, the last because %s; "+
		"a worker process says that it is ready as docs/protocol.md has it, and \"ctworker protocol-check -- COMMAND\" checks one", e.Times, e.Command, e.Reason)
}

// exitText says how a process ended.
func exitText(e Exit) string {
	if e.Code < 0 {
		return fmt.Sprintf("it was killed by signal %d (%v)", -e.Code, syscall.Signal(-e.Code))
	}
	return fmt.Sprintf("it exited with code %d", e.Code)
}
