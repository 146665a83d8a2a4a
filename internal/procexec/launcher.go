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

	"github.com/ctworker/ctworker/internal/optcheck"
)

// ErrClosed is returned by a Launcher that has been closed.
var ErrClosed = errors.New("the Launcher is closed")

// Options configures a Launcher. The zero value is valid.
type Options struct {
	// Slots is the maximum number of concurrent processes; Spec.Slot must be less. Defaults to
	// 1.
	Slots int
	// Guard is a command that calls RunGuard first in main, for example this program itself.
	// NewLauncher starts it once. If this process is killed by SIGKILL, the guard kills all
	// tasks and what they started. If Guard is nil, only the tasks themselves are killed then
	// (Linux).
	Guard []string
	// Subreaper makes this process adopt and kill the processes that tasks leave behind outside
	// of their process groups (Linux). From NewLauncher to Close, every child of this process
	// that the Launcher did not start is treated as such an orphan: do not set Subreaper in a
	// program that starts processes of its own.
	Subreaper bool
	// StableThreads declares that no goroutine of this program ends while it is locked to its
	// thread, so that no thread ends before the program does. Processes are then started from
	// any thread, which saves a tenth of the cost of a short process. See spawnThread.
	StableThreads bool
	// Dir is a directory that belongs to this run. If the guard has to clean up, it removes the
	// files of the notifications from Dir, and then Dir.
	Dir string
	// Log receives warnings about errors that do not end the run.
	Log zerolog.Logger
}

// Validate returns an error if Slots is negative.
func (o Options) Validate() error {
	return optcheck.Join("procexec.Options", optcheck.NotNegative("Slots", o.Slots))
}

// A Launcher starts processes and keeps track of those that are running. It owns the thread
// they are started from, the guard, and the adopted orphans. It is safe for concurrent use.
type Launcher struct {
	opts  Options
	runID string // part of every process's environment; see envMarkerVar

	spawnThread *spawnThread
	table       *groupTable
	guard       *guard
	orphans     *orphans

	// spawnMu is held for reading while a process is started or reaped: until then, live may
	// not match the children of this process. It is held for writing to compare the two.
	spawnMu sync.RWMutex

	// fastPathSlots limits the number of threads that block in Process.waitFast.
	fastPathSlots chan struct{}

	shortageOnce sync.Once // logs the shortage warning once

	mu     sync.Mutex
	nextID int64
	live   map[int64]*Process
	closed bool
	idle   chan struct{} // closed when closed and live is empty
}

// envMarkerVar is the environment variable that marks a process, and its descendants, as part
// of a run. Its value is the run's id, a dot, and the process's number.
const envMarkerVar = "CTWORKER_PROCESS"

// NewLauncher returns a Launcher. Close it when no process is needed any more.
func NewLauncher(opts Options) (*Launcher, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts.Slots = max(opts.Slots, 1)
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
	if l.table, err = newGroupTable(2 * opts.Slots); err != nil { // a slot may have a preforked process
		return nil, err
	}
	l.spawnThread = newSpawnThread(opts.StableThreads)
	if len(opts.Guard) > 0 {
		if l.guard, err = l.startGuard(opts.Guard); err != nil {
			opts.Log.Warn().Err(err).Msg("could not start the guard process; if ctworker is killed, processes that tasks started may survive")
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

// A Spec specifies a process to start.
type Spec struct {
	// Path is the program's path. It must contain a slash; PATH is not searched.
	Path string
	// Args are the arguments, beginning with the program's name.
	Args []string
	// Env is the complete environment. The Launcher adds its own variable.
	Env []string
	// Dir is the working directory. Defaults to the working directory of this process.
	Dir string
	// Files are descriptors of this process that become the descriptors 0, 1, 2, … of the new
	// process. Start does not close them.
	Files []uintptr
	// Slot is the slot that the process runs in, from 0.
	Slot int
	// MemoryLimit is the maximum address space of the process in bytes. 0 means no limit.
	MemoryLimit int64
}

// A StartError is returned if a process cannot be started.
type StartError struct {
	Path string
	Err  error
}

// Error returns the program's path and the reason.
func (e *StartError) Error() string { return fmt.Sprintf("start %s: %v", e.Path, e.Err) }

// Unwrap returns the operating system's error.
func (e *StartError) Unwrap() error { return e.Err }

// Start starts a process in a new process group. The exit of the process is handled only after
// the first call of Exit, Done or Close. Start is safe for concurrent use. It returns a
// *StartError, or ErrClosed.
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

	marker := envMarkerVar + "=" + l.runID + "." + strconv.FormatInt(p.id, 10)
	env := append(spec.Env[:len(spec.Env):len(spec.Env)], marker)
	var err error
	l.spawnThread.do(func() {
		l.spawnMu.RLock()
		defer l.spawnMu.RUnlock()
		p.started = time.Now() // after the wait for the thread
		if err = p.start(&spec, env); err == nil {
			l.table.set(p.slot, p.Pid())
		}
	})
	if err != nil {
		l.remove(p)
		return nil, &StartError{Path: spec.Path, Err: err}
	}
	p.setRunning()
	return p, nil
}

// nextEnvMarker returns the number and the value of envMarkerVar for a process that the fork
// server starts.
func (l *Launcher) nextEnvMarker() (id int64, marker string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextID++
	return l.nextID, l.runID + "." + strconv.FormatInt(l.nextID, 10)
}

// warnShortage logs, once, that tasks cannot be started now.
func (l *Launcher) warnShortage(err error) {
	l.shortageOnce.Do(func() {
		l.opts.Log.Warn().Err(err).Msg("could not start a process because the machine is short of a resource; retrying")
	})
}

// remove removes p from the running processes.
func (l *Launcher) remove(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, p.id)
	if l.closed && len(l.live) == 0 {
		close(l.idle)
	}
}

// oldest returns the lowest number of a running process, and the number of the last process
// that was started. If no process is running, lowest is last+1.
func (l *Launcher) oldest() (lowest, last int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lowest = l.nextID + 1
	for id := range l.live {
		lowest = min(lowest, id)
	}
	return lowest, l.nextID
}

// isLive reports whether the process with number id is running.
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

// closeTimeout is the maximum time that Close waits for the processes that it killed.
const closeTimeout = 5 * time.Second

// Close kills all running processes and adopted orphans, waits for them, and stops the guard
// and the thread. It returns an error if a process does not exit within 5 seconds. Only the
// first call has an effect.
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
		go func() { <-l.idle; _ = l.release() }() // the remaining processes still use the thread and the table
		return err
	}
	return errors.Join(l.closeOrphans(), l.stopGuard(), l.release())
}

// release releases the thread and the table of process groups.
func (l *Launcher) release() error {
	l.spawnThread.close()
	return l.table.close()
}

// stuckError returns the error about the processes that are still running.
func (l *Launcher) stuckError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	pids := make([]int, 0, len(l.live))
	for _, p := range l.live {
		pids = append(pids, p.Pid())
	}
	return fmt.Errorf("processes %v did not exit within %v after SIGKILL", pids, closeTimeout)
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
