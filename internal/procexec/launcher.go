package procexec

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// ErrClosed says that the Launcher was closed.
var ErrClosed = errors.New("launcher is closed")

// Options are a Launcher's settings. The zero value works.
type Options struct {
	// Slots is how many processes run at once at most, and so the range of
	// Spec.Slot. Default 1.
	Slots int
	// Guard is a command that calls RunGuard, such as this program itself. It
	// is started once and kills what is left if this process dies of SIGKILL.
	// Nil: without a guard, only the processes themselves are killed then
	// (Linux), not what they started.
	Guard []string
	// Subreaper makes this process adopt what its tasks leave behind, even in
	// a session of its own, so that it can be killed (Linux). Every child that
	// this process gets from NewLauncher to Close, and that the Launcher did
	// not start, is then taken for such an orphan: do not set it in a program
	// that starts processes of its own.
	Subreaper bool
	// StableThreads says that no goroutine of this program ends while it is
	// locked to its thread, so that no thread ends before the program does.
	// Processes are then started from any thread, which saves a tenth of the
	// cost of a short one; see thread.
	StableThreads bool
	// Dir is a directory of this run's that the guard removes if it has to
	// clean up: the notices' files and then the directory itself.
	Dir string
	// Log receives what went wrong and is no reason to end.
	Log zerolog.Logger
}

// A Launcher starts processes and knows all that it has started. It owns the
// thread they are started from, the guard, and the adopted orphans.
type Launcher struct {
	opts  Options
	runID string // stands in every process's environment; see processVar

	thread  *thread
	table   *table
	guard   *guard
	orphans *orphans

	// births is held for reading while a child is started or reaped, and for
	// writing to tell which children are the Launcher's own: between the two
	// its books are behind the system's.
	births sync.RWMutex

	// brief has a place for each thread that may block to wait for a process.
	brief chan struct{}

	short sync.Once // around the one warning that the machine is short of something

	mu     sync.Mutex
	nextID int64
	live   map[int64]*Process
	closed bool
	idle   chan struct{} // closed when closed and live is empty
}

// processVar is the environment variable by which a process, and all that comes
// from it, is known as one of a run's: the run's id, a dot, and the process's
// number.
const processVar = "CTWORKER_PROCESS"

// NewLauncher returns a Launcher; Close it.
func NewLauncher(opts Options) (*Launcher, error) {
	opts.Slots = max(opts.Slots, 1)
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("run id: %w", err)
	}
	l := &Launcher{
		opts: opts, runID: hex.EncodeToString(id[:]),
		live: map[int64]*Process{}, idle: make(chan struct{}),
		brief: make(chan struct{}, 2*runtime.NumCPU()),
	}
	var err error
	if l.table, err = newTable(2 * opts.Slots); err != nil { // a slot may have a spare
		return nil, err
	}
	l.thread = newThread(opts.StableThreads)
	if len(opts.Guard) > 0 {
		if l.guard, err = l.startGuard(opts.Guard); err != nil {
			opts.Log.Warn().Err(err).Msg("no guard: if this process is killed, what tasks have started may live on")
		}
	}
	if opts.Subreaper {
		if l.orphans, err = newOrphans(l); err != nil {
			opts.Log.Warn().Err(err).Msg("processes that leave their task's group cannot be caught")
		}
	}
	if opts.Subreaper || l.guard != nil {
		if err := l.checkProc(); err != nil {
			opts.Log.Warn().Err(err).Msg("processes that tasks move to their own session may outlive the run")
		}
	}
	return l, nil
}

// A Spec says what to start.
type Spec struct {
	// Path is the program, absolute or with a slash; PATH is not searched.
	Path string
	// Args are the arguments, the program's name first.
	Args []string
	// Env is the whole environment, to which the Launcher adds its own mark.
	Env []string
	// Dir is the working directory; "" is this process's.
	Dir string
	// Files are descriptors of this process that become 0, 1, 2, … of the new
	// one. Start does not close them.
	Files []uintptr
	// Slot is the unit of concurrency that the process runs in, from 0.
	Slot int
	// MemoryLimit bounds the process's address space in bytes; 0: no bound.
	MemoryLimit int64
}

// StartError says that a process could not be started.
type StartError struct {
	Path string
	Err  error
}

// Error names the program and the reason.
func (e *StartError) Error() string { return fmt.Sprintf("start %s: %v", e.Path, e.Err) }

// Unwrap returns the operating system's error.
func (e *StartError) Unwrap() error { return e.Err }

// Start starts a process in a process group of its own. Its end is noticed from
// the first call of Exit, Done or Close on. Start may be called from several
// goroutines.
func (l *Launcher) Start(spec Spec) (*Process, error) {
	p := &Process{launcher: l, slot: spec.Slot, pidfd: -1, done: make(chan struct{})}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	l.nextID++
	p.id = l.nextID
	l.live[p.id] = p
	l.mu.Unlock()

	mark := processVar + "=" + l.runID + "." + strconv.FormatInt(p.id, 10)
	env := append(spec.Env[:len(spec.Env):len(spec.Env)], mark)
	var err error
	l.thread.do(func() {
		l.births.RLock()
		defer l.births.RUnlock()
		p.started = time.Now() // not before: many may wait for the thread
		if err = p.start(&spec, env); err == nil {
			l.table.set(p.slot, p.Pid())
		}
	})
	if err != nil {
		l.forget(p)
		return nil, &StartError{Path: spec.Path, Err: err}
	}
	p.begin()
	return p, nil
}

// mark returns the next number of a process, and the mark for one that somebody
// else starts.
func (l *Launcher) mark() (id int64, mark string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextID++
	return l.nextID, l.runID + "." + strconv.FormatInt(l.nextID, 10)
}

// warnShort says, once, why nothing seems to happen.
func (l *Launcher) warnShort(err error) {
	l.short.Do(func() {
		l.opts.Log.Warn().Err(err).Msg("a task cannot be started now; trying again as others end")
	})
}

// forget takes p out of the books.
func (l *Launcher) forget(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, p.id)
	if l.closed && len(l.live) == 0 {
		close(l.idle)
	}
}

// oldest returns the lowest number of a live process, and the number that the
// next one will exceed.
func (l *Launcher) oldest() (lowest, last int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lowest = l.nextID + 1
	for id := range l.live {
		lowest = min(lowest, id)
	}
	return lowest, l.nextID
}

// isLive reports whether process id is running.
func (l *Launcher) isLive(id int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.live[id]
	return ok
}

// Signal sends a signal to each process and its group.
func (l *Launcher) Signal(sig syscall.Signal) {
	l.mu.Lock()
	live := slices.Collect(maps.Values(l.live))
	l.mu.Unlock()
	for _, p := range live {
		p.signalGroup(sig)
	}
}

// closeWait bounds the wait for processes that Close had to kill.
const closeWait = 5 * time.Second

// Close kills every process that still runs, waits for it, kills what was
// adopted, and ends the guard and the thread. It returns an error if a process
// cannot be killed; only the first call does anything.
func (l *Launcher) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	left := make([]*Process, 0, len(l.live))
	for _, p := range l.live {
		left = append(left, p)
	}
	if len(left) == 0 {
		close(l.idle)
	}
	l.mu.Unlock()

	for _, p := range left {
		p.doom()
	}
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-l.idle:
	case <-timer.C:
		err := errors.Join(l.stuck(), l.closeOrphans(), l.endGuard())
		go func() { <-l.idle; _ = l.release() }() // they still use it
		return err
	}
	return errors.Join(l.closeOrphans(), l.endGuard(), l.release())
}

// release gives up what only processes need.
func (l *Launcher) release() error {
	l.thread.close()
	return l.table.close()
}

// stuck is the error of a Close that some processes have outlived.
func (l *Launcher) stuck() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	pids := make([]int, 0, len(l.live))
	for _, p := range l.live {
		pids = append(pids, p.Pid())
	}
	return fmt.Errorf("processes %v did not die of SIGKILL within %v", pids, closeWait)
}

func (l *Launcher) closeOrphans() error {
	if l.orphans == nil {
		return nil
	}
	return l.orphans.close()
}

func (l *Launcher) endGuard() error {
	if l.guard == nil {
		return nil
	}
	return l.guard.end()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
