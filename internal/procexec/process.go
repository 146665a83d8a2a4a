package procexec

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// An Exit is how a process ended.
type Exit struct {
	// Code is the exit code, or minus the number of the signal that ended it.
	Code int
	// CPU is the user and system time of the process and of the children it
	// waited for.
	CPU time.Duration
	// PeakMemory is the largest resident set size, in bytes, of the process or
	// one of those children. The system counts from before the program was
	// loaded, so it is never below this process's own at the time.
	PeakMemory int64
}

// A Process is a running child, and the leader of a process group.
type Process struct {
	launcher *Launcher
	id       int64
	slot     int
	pid      atomic.Int64 // written once, by start
	started  time.Time
	pidfd    int // on Linux, or -1

	mu      sync.Mutex
	running bool      // it has been started and not been reaped: the pid is its own
	doomed  bool      // it was killed before it was started
	linger  time.Time // until when the rest of the group may outlive the leader

	wait    sync.Mutex // held by whoever waits for the end, to whom pidfd belongs
	reaping sync.Once  // starts a goroutine that does
	exit    Exit
	done    chan struct{}
}

// Pid is the process's id, which is its group's too.
func (p *Process) Pid() int { return int(p.pid.Load()) }

// Started is when the start began.
func (p *Process) Started() time.Time { return p.started }

// Done is closed once the process has ended, its group has been killed and it
// has been reaped.
func (p *Process) Done() <-chan struct{} {
	if !isClosed(p.done) {
		p.reaping.Do(func() { go p.reap() })
	}
	return p.done
}

// Exit waits for the end of the process and returns how it ended.
func (p *Process) Exit() Exit {
	<-p.Done()
	return p.exit
}

// Terminate asks the whole group to end, with SIGTERM. Where the leader is the
// first to end, as a shell is that waits for a program, the others have until
// patience is over before they are killed (Linux; elsewhere they have not).
func (p *Process) Terminate(grace time.Duration) {
	p.mu.Lock()
	p.linger = time.Now().Add(grace)
	p.mu.Unlock()
	p.signalGroup(syscall.SIGTERM)
}

// Kill kills the whole group, with SIGKILL.
func (p *Process) Kill() { p.signalGroup(syscall.SIGKILL) }

// signalGroup sends sig to the group, unless the leader has been reaped: until
// then its id cannot have been given to another process.
func (p *Process) signalGroup(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		_ = syscall.Kill(-p.Pid(), sig) // ESRCH: it has just gone
	}
}

// doom kills the process and has it reaped, also if it is only just being
// started: it has no id then, and 0 would name the group of this process.
func (p *Process) doom() {
	p.mu.Lock()
	p.doomed = true
	running := p.running
	p.mu.Unlock()
	if running {
		p.Kill()
		p.Done() // whoever started it may not wait for it
	}
}

// begin says that the process has been started, and can be signalled.
func (p *Process) begin() {
	p.mu.Lock()
	p.running = true
	doomed := p.doomed
	p.mu.Unlock()
	if doomed {
		p.Kill()
		p.Done()
	}
}

// hasEnded reports whether the process has ended by now, even if nobody has
// noticed: this program may have been stopped for long.
func (p *Process) hasEnded() bool {
	if isClosed(p.done) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.running || isZombie(p.Pid())
}

// reap waits for the process's end and clears up after it.
func (p *Process) reap() {
	p.wait.Lock()
	defer p.wait.Unlock()
	if !isClosed(p.done) {
		p.awaitExit()
		p.clearUp()
	}
}

// awaitBriefly waits for the process's end for up to d, in the caller's
// goroutine, and reports whether it has come: most of what is to be gained for
// tasks that are over in a millisecond is not to wake anybody for them. Where
// enough threads wait in this way already, it returns at once.
func (p *Process) awaitBriefly(d time.Duration) bool {
	select {
	case p.launcher.brief <- struct{}{}:
	default:
		return false
	}
	defer func() { <-p.launcher.brief }()
	p.wait.Lock()
	defer p.wait.Unlock()
	if !isClosed(p.done) {
		if !p.awaitExitBriefly(d) {
			return false
		}
		p.clearUp()
	}
	return true
}

// clearUp kills what the process, which has ended, has left in its group, and
// reaps it. It runs once.
func (p *Process) clearUp() {
	p.mu.Lock()
	linger := p.linger
	p.mu.Unlock()
	if !linger.IsZero() {
		awaitGroup(p.Pid(), linger)
	}
	p.launcher.births.RLock()
	p.mu.Lock()
	// The leader is a zombie now, which keeps its id and the group's from being
	// used again: what it left running in the group can be killed safely, and
	// is, so that a task is over when its process is.
	_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
	p.launcher.table.clear(p.slot, p.Pid())
	p.exit = p.collect()
	p.running = false
	p.mu.Unlock()
	p.launcher.forget(p)
	p.launcher.births.RUnlock()
	close(p.done)
}

// statusUnknown is the exit code of a process that somebody else has reaped,
// which this program must not do. It is taken for a failure.
const statusUnknown = 255

// collect reaps the process, which has ended.
func (p *Process) collect() Exit {
	if p.pidfd >= 0 {
		defer closeFD(p.pidfd)
	}
	for {
		var status syscall.WaitStatus
		var usage syscall.Rusage
		_, err := syscall.Wait4(p.Pid(), &status, 0, &usage)
		switch {
		case err == nil:
			return exitOf(status, &usage)
		case !errors.Is(err, syscall.EINTR):
			return Exit{Code: statusUnknown}
		}
	}
}

// exitOf turns what wait reports into an Exit.
func exitOf(status syscall.WaitStatus, usage *syscall.Rusage) Exit {
	code := status.ExitStatus()
	if status.Signaled() {
		code = -int(status.Signal())
	}
	return Exit{
		Code:       code,
		CPU:        time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
		PeakMemory: int64(usage.Maxrss) * maxrssUnit,
	}
}
