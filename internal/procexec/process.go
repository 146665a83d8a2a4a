package procexec

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ctworker/ctworker/internal/unixfd"
)

// An Exit describes how a process exited.
type Exit struct {
	// Code is the exit code, or minus the number of the signal that killed the process.
	Code int
	// CPU is the user and system time of the process and of the children that it waited for.
	CPU time.Duration
	// PeakMemory is the largest resident set size, in bytes, of the process or of one of those
	// children. The kernel includes the time before exec, so it is never below the size of the
	// process that started it.
	PeakMemory int64
}

// A Process is a child process, and the leader of a process group.
type Process struct {
	launcher *Launcher
	id       int64
	slot     int
	pid      atomic.Int64 // written once, by start
	started  time.Time
	pidfd    int // on Linux, or -1

	mu            sync.Mutex
	running       bool      // started and not reaped yet, so the pid is valid
	killRequested bool      // kill the process as soon as it is started
	lingerUntil   time.Time // until when the other processes of the group may outlive the leader

	waitMu   sync.Mutex // held by the goroutine that waits for the exit, which owns pidfd
	reapOnce sync.Once  // starts the goroutine of reap
	exit     Exit
	done     chan struct{}
}

// Pid returns the id of the process, which is also the id of its group.
func (p *Process) Pid() int { return int(p.pid.Load()) }

// Started returns the time when the process was started.
func (p *Process) Started() time.Time { return p.started }

// Done returns a channel that is closed once the process has exited, its group has been killed,
// and it has been reaped.
func (p *Process) Done() <-chan struct{} {
	if !isClosed(p.done) {
		p.reapOnce.Do(func() { go p.reap() })
	}
	return p.done
}

// Exit waits until Done is closed, and returns how the process exited.
func (p *Process) Exit() Exit {
	<-p.Done()
	return p.exit
}

// Terminate sends SIGTERM to the process group. If the leader exits first, as a shell does that
// waits for a program, the other processes of the group are killed only after the grace period
// (Linux), or immediately (other systems).
func (p *Process) Terminate(grace time.Duration) {
	p.mu.Lock()
	p.lingerUntil = time.Now().Add(grace)
	p.mu.Unlock()
	p.signalGroup(syscall.SIGTERM)
}

// Kill sends SIGKILL to the process group.
func (p *Process) Kill() { p.signalGroup(syscall.SIGKILL) }

// signalGroup sends sig to the group, unless the leader has been reaped. Until then, its id
// cannot be reused.
func (p *Process) signalGroup(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		_ = syscall.Kill(-p.Pid(), sig) // ESRCH: the group has just exited
	}
}

// killWhenStarted kills and reaps the process, immediately or as soon as it is started. A
// process that is not started has the id 0, which as a group means the group of this process.
func (p *Process) killWhenStarted() {
	p.mu.Lock()
	p.killRequested = true
	running := p.running
	p.mu.Unlock()
	if running {
		p.Kill()
		p.Done() // reap it even if the caller of Start does not wait for it
	}
}

// setRunning records that the process has been started and can be signalled.
func (p *Process) setRunning() {
	p.mu.Lock()
	p.running = true
	killRequested := p.killRequested
	p.mu.Unlock()
	if killRequested {
		p.Kill()
		p.Done()
	}
}

// hasExited reports whether the process has exited, even if that has not been handled yet, for
// example because this program was suspended.
func (p *Process) hasExited() bool {
	if isClosed(p.done) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.running || isZombie(p.Pid())
}

// reap waits until the process exits and cleans up after it.
func (p *Process) reap() {
	p.waitMu.Lock()
	defer p.waitMu.Unlock()
	if !isClosed(p.done) {
		p.awaitExit()
		p.cleanUp()
	}
}

// waitFast waits up to d for the process to exit, in the caller's goroutine, and reports
// whether it did. For tasks that take a millisecond, waking another goroutine would be most of
// the overhead. If too many threads already wait in waitFast, it returns false immediately.
func (p *Process) waitFast(d time.Duration) bool {
	select {
	case p.launcher.fastPathSlots <- struct{}{}:
	default:
		return false
	}
	defer func() { <-p.launcher.fastPathSlots }()
	p.waitMu.Lock()
	defer p.waitMu.Unlock()
	if !isClosed(p.done) {
		if !p.pollExit(d) {
			return false
		}
		p.cleanUp()
	}
	return true
}

// cleanUp kills the remaining processes of the group after the leader has exited, and reaps the
// leader. It is called once.
func (p *Process) cleanUp() {
	p.mu.Lock()
	linger := p.lingerUntil
	p.mu.Unlock()
	if !linger.IsZero() {
		awaitGroup(p.Pid(), linger)
	}
	p.launcher.spawnMu.RLock()
	p.mu.Lock()
	// The leader is a zombie now, so its id and that of the group cannot be reused.
	// The remaining processes of the group can be killed safely, so that a task
	// ends when its process does.
	_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
	p.launcher.table.clear(p.slot, p.Pid())
	p.exit = p.reapZombie()
	p.running = false
	p.mu.Unlock()
	p.launcher.remove(p)
	p.launcher.spawnMu.RUnlock()
	close(p.done)
}

// statusUnknown is the exit code of a process that other code in this program has reaped, which
// it must not do. It counts as a failure.
const statusUnknown = 255

// reapZombie reaps the process, which has exited, and returns how it exited.
func (p *Process) reapZombie() Exit {
	if p.pidfd >= 0 {
		defer unixfd.Close(p.pidfd)
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

// exitOf converts the results of wait4(2) to an Exit.
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
