package procexec

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// ErrClosed is returned by Launcher.Start after Close.
var ErrClosed = errors.New("the Launcher is closed")

// Options configures a Launcher. The zero value is valid.
type Options struct {
	// Guard is a command whose main function calls RunGuard first, for example the command of this
	// program. NewLauncher starts the command once, as a helper process. If this program is killed
	// by SIGKILL, the helper kills all tasks and everything that they started. If Guard is empty
	// and this program is killed, the kernel kills only the tasks themselves (Linux).
	Guard []string
	// Subreaper makes this program adopt and kill processes that tasks leave behind outside of
	// their process groups (Linux). Between NewLauncher and Close, the Launcher kills every new
	// child of this program that the Launcher did not start. Do not set Subreaper in a program that
	// starts processes by other means.
	Subreaper bool
	// StableThreads declares that the operating-system threads of this program do not end before
	// the program does. A thread ends early if a goroutine that is locked to it returns. With
	// StableThreads, processes are started from any thread, which makes short tasks about 10 %
	// faster.
	StableThreads bool
	// Dir is a directory that belongs to this run. If this program is killed, the guard removes the
	// files of the notifications from Dir, and then Dir. The path must be absolute. Optional.
	Dir string
	// Log receives warnings about errors that do not end the run.
	Log zerolog.Logger
}

// Validate returns an error if Dir is a relative path.
func (o Options) Validate() error {
	if o.Dir != "" && !filepath.IsAbs(o.Dir) {
		return fmt.Errorf("procexec.Options: Dir is %q: it must be an absolute path", o.Dir)
	}
	return nil
}

// A Launcher starts processes and keeps track of the running processes. It also owns the guard, and
// kills orphaned processes of tasks if Options.Subreaper is set. It is safe for concurrent use.
type Launcher struct {
	opts  Options
	runID string // identifies the processes of this run; see envMarkerVar

	spawnThread *spawnThread
	table       *groupTable
	guard       *guard
	orphans     *orphans

	// spawnMu is held for reading while a process is started or reaped. During that time, live and
	// the actual children of this program differ. It is held for writing while live and the actual
	// children are compared.
	spawnMu sync.RWMutex

	// fastPathSlots limits how many threads block in Process.waitFast at the same time.
	fastPathSlots chan struct{}

	shortageOnce sync.Once // limits the warning about a shortage to one per run

	mu     sync.Mutex
	nextID int64
	live   map[int64]*Process
	closed bool
	idle   chan struct{} // closed when Close was called and live is empty
}

// envMarkerVar is an environment variable by which a process and its descendants can be recognized
// as part of a run. Its value, called the marker, is the id of the run, a dot, and the number of
// the process.
const envMarkerVar = "CTWORKER_PROCESS"

// NewLauncher returns a Launcher. Close the Launcher when its processes are not needed any more.
func NewLauncher(opts Options) (*Launcher, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("create an id for the run: %w", err)
	}
	l := &Launcher{
		opts: opts, runID: hex.EncodeToString(id[:]),
		live: map[int64]*Process{}, idle: make(chan struct{}),
		fastPathSlots: make(chan struct{}, 2*runtime.NumCPU()),
	}
	var err error
	if l.table, err = newGroupTable(); err != nil {
		return nil, err
	}
	l.spawnThread = newSpawnThread(opts.StableThreads)
	if len(opts.Guard) > 0 {
		if l.guard, err = l.startGuard(opts.Guard); err != nil {
			opts.Log.Warn().Err(err).Msg("could not start the guard process; processes that tasks started may survive if ctworker is killed")
		}
	}
	if opts.Subreaper {
		if l.orphans, err = newOrphans(l); err != nil {
			opts.Log.Warn().Err(err).Msg("could not adopt orphaned processes; processes that leave the process group of their task may outlive the task")
		}
	}
	if opts.Subreaper || l.guard != nil {
		if err := l.checkProc(); err != nil {
			opts.Log.Warn().Err(err).Msg("could not read /proc; processes that tasks move to a session of their own may outlive the run")
		}
	}
	return l, nil
}

// A Spec describes a process to start.
type Spec struct {
	// Path is the path of the program. It must contain a slash, because PATH is not searched.
	Path string
	// Args are the arguments. The first is the name of the program.
	Args []string
	// Env is the environment. The Launcher adds the variable CTWORKER_PROCESS.
	Env []string
	// Dir is the working directory. Defaults to the working directory of this program.
	Dir string
	// Files are open descriptors of this program. In the new process, they get the numbers 0, 1, 2
	// and so on. Start does not close them.
	Files []uintptr
	// MemoryLimit is the maximum size of the address space of the process, in bytes (Linux). 0
	// means no limit.
	MemoryLimit int64
}

// A StartError is returned if a process cannot be started.
type StartError struct {
	Path string
	Err  error
}

// Error returns the path of the program and the reason.
func (e *StartError) Error() string { return fmt.Sprintf("start %s: %v", e.Path, e.Err) }

// Unwrap returns the operating system's error.
func (e *StartError) Unwrap() error { return e.Err }

// Start starts a process in a new process group. It returns a *StartError if the start fails, and
// ErrClosed after Launcher.Close. Call Process.Exit, Process.Done or Launcher.Close later: until
// then, a process that exits remains a zombie, and its group is not killed. Start is safe for
// concurrent use.
func (l *Launcher) Start(spec Spec) (*Process, error) {
	p := &Process{launcher: l, pidfd: -1, done: make(chan struct{})}
	if err := l.add(p); err != nil {
		return nil, err
	}

	marker := envMarkerVar + "=" + l.runID + "." + strconv.FormatInt(p.id, 10)
	env := append(spec.Env[:len(spec.Env):len(spec.Env)], marker)
	var err error
	l.spawnThread.do(func() {
		l.spawnMu.RLock()
		defer l.spawnMu.RUnlock()
		p.started = time.Now() // not earlier, because do may wait for the thread
		if err = p.start(&spec, env); err == nil {
			l.table.set(p.tableEntry, p.Pid())
		}
	})
	if err != nil {
		l.remove(p)
		return nil, &StartError{Path: spec.Path, Err: err}
	}
	p.setRunning()
	return p, nil
}

// add adds p to the running processes, and reserves an entry in the table for it. It returns
// ErrClosed after Close, because the table may have been unmapped.
func (l *Launcher) add(p *Process) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	var err error
	if p.tableEntry, err = l.table.reserve(); err != nil {
		return err
	}
	l.nextID++
	p.id = l.nextID
	l.live[p.id] = p
	return nil
}

// nextEnvMarker returns the number and the marker for a process that the fork server will fork.
func (l *Launcher) nextEnvMarker() (id int64, marker string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextID++
	return l.nextID, l.runID + "." + strconv.FormatInt(l.nextID, 10)
}

// warnShortage logs a warning that processes cannot be started at present. Only the first call in a
// run logs the warning.
func (l *Launcher) warnShortage(err error) {
	l.shortageOnce.Do(func() {
		l.opts.Log.Warn().Err(err).Msg("could not start a process because the machine is short of a resource; retrying for up to 30 seconds")
	})
}

// remove removes p from the running processes, and releases its entry in the table.
func (l *Launcher) remove(p *Process) {
	l.table.release(p.tableEntry)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, p.id)
	if l.closed && len(l.live) == 0 {
		close(l.idle)
	}
}

// oldest returns the lowest number of a running process, and the number of the process that was
// started last. If no process is running, lowest is last+1.
func (l *Launcher) oldest() (lowest, last int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lowest = l.nextID + 1
	for id := range l.live {
		lowest = min(lowest, id)
	}
	return lowest, l.nextID
}

// isLive reports whether the process with the number id is running.
func (l *Launcher) isLive(id int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.live[id]
	return ok
}

// Signal sends sig to the process groups of all running processes.
func (l *Launcher) Signal(sig syscall.Signal) {
	l.mu.Lock()
	live := slices.Collect(maps.Values(l.live))
	l.mu.Unlock()
	for _, p := range live {
		p.signalGroup(sig)
	}
}

// closeTimeout is how long Close waits for the exit of the processes that it has killed.
const closeTimeout = 5 * time.Second

// Close kills all running processes and orphans, waits for their exit, and stops the guard. It
// returns an error if a process does not exit within 5 seconds. Further calls have no effect.
func (l *Launcher) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	live := make([]*Process, 0, len(l.live))
	for _, p := range l.live {
		live = append(live, p)
	}
	if len(live) == 0 {
		close(l.idle)
	}
	l.mu.Unlock()

	for _, p := range live {
		p.killWhenStarted()
	}
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-l.idle:
	case <-timer.C:
		err := errors.Join(l.stuckError(), l.closeOrphans(), l.stopGuard())
		// The processes that still run use the thread and the table, so release these later.
		go func() { <-l.idle; _ = l.release() }()
		return err
	}
	return errors.Join(l.closeOrphans(), l.stopGuard(), l.release())
}

// release ends the thread that starts processes, and unmaps the table of process groups.
func (l *Launcher) release() error {
	l.spawnThread.close()
	return l.table.close()
}

// stuckError returns an error that lists the processes that are still running.
func (l *Launcher) stuckError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	pids := make([]int, 0, len(l.live))
	for _, p := range l.live {
		pids = append(pids, p.Pid())
	}
	return fmt.Errorf("task processes %v did not exit within %v after SIGKILL: they may be blocked in the kernel, for example by a network file system", pids, closeTimeout)
}

func (l *Launcher) closeOrphans() error {
	if l.orphans == nil {
		return nil
	}
	return l.orphans.close()
}

func (l *Launcher) stopGuard() error {
	if l.guard == nil {
		return nil
	}
	return l.guard.stop()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
