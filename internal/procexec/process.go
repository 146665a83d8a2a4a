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
	// Code is the exit code. If a signal killed the process, it is minus the number of the signal.
	Code int
	// CPU is the user and system time of the process and of the children that it has reaped.
	CPU time.Duration
	// PeakMemory is the largest resident set size, in bytes, of the process or of a child that it
	// has reaped. It is never less than the memory of this program: the kernel includes the time
	// before exec, when the process was a copy of this program.
	PeakMemory int64
}

// A Process is a child process that was started by a Launcher, and the leader of a process group.
type Process struct {
	launcher   *Launcher
	id         int64
	tableEntry int          // index in the table of process groups that the guard reads
	pid        atomic.Int64 // written once, by start
	started    time.Time
	pidfd      int // descriptor of the process (Linux); -1 if there is none

	mu            sync.Mutex
	running       bool      // started and not reaped, so pid cannot denote another process
	killRequested bool      // Close was called: kill the process as soon as it is started
	lingerUntil   time.Time // after the leader has exited, the other processes of the group may run until this time

	waitMu   sync.Mutex // held while a goroutine waits for the exit; guards pidfd
	reapOnce sync.Once  // starts the goroutine that calls reap
	exit     Exit
	done     chan struct{}
}

// Pid returns the id of the process, which is also the id of its group.
func (p *Process) Pid() int { return int(p.pid.Load()) }

// Started returns the time at which the process was started.
func (p *Process) Started() time.Time { return p.started }

// Done returns a channel that is closed when the process has exited, its process group has been
// killed, and the process has been reaped.
func (p *Process) Done() <-chan struct{} {
	if !isClosed(p.done) {
		p.reapOnce.Do(func() { go p.reap() })
	}
	return p.done
}

// Exit waits until Done is closed. It returns how the process exited.
func (p *Process) Exit() Exit {
	<-p.Done()
	return p.exit
}

// Terminate sends SIGTERM to the process group. The leader may exit before the other processes of
// the group. For example, a shell may exit before the program that it runs. On Linux, the other
// processes may then run until the end of the grace period, when they are killed. On other systems,
// they are killed as soon as the leader has exited.
func (p *Process) Terminate(grace time.Duration) {
	p.mu.Lock()
	p.lingerUntil = time.Now().Add(grace)
	p.mu.Unlock()
	p.signalGroup(syscall.SIGTERM)
}

// Kill sends SIGKILL to the process group.
func (p *Process) Kill() { p.signalGroup(syscall.SIGKILL) }

// signalGroup sends sig to the process group. It does nothing if the process has been reaped,
// because its id may then denote another process group.
func (p *Process) signalGroup(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		_ = syscall.Kill(-p.Pid(), sig) // ESRCH means that the whole group has exited
	}
}

// killWhenStarted kills and reaps the process. If the process is not started yet, its pid is still
// 0, and a signal to group 0 would reach this program. In that case, setRunning kills the process
// later.
func (p *Process) killWhenStarted() {
	p.mu.Lock()
	p.killRequested = true
	running := p.running
	p.mu.Unlock()
	if running {
		p.Kill()
		p.Done() // reap the process, even if the caller of Start never waits for it
	}
}

// setRunning records that the process can be sent signals, because it has been started.
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

// hasExited reports whether the process has exited. It asks the kernel, because the channel Done
// may be closed late, for example if this program was suspended.
func (p *Process) hasExited() bool {
	if isClosed(p.done) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.running || isZombie(p.Pid())
}

// reap waits until the process exits, and then calls cleanUp.
func (p *Process) reap() {
	p.waitMu.Lock()
	defer p.waitMu.Unlock()
	if !isClosed(p.done) {
		p.awaitExit()
		p.cleanUp()
	}
}

// waitFast waits up to d for the exit of the process, and reports whether it exited. It waits in
// the goroutine of the caller, because waking another goroutine would cause most of the overhead of
// a task that lasts a millisecond. If too many threads already wait in waitFast, it returns false
// immediately.
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

// cleanUp is called once, when the process has exited. It kills the other processes of the group
// and reaps the process.
func (p *Process) cleanUp() {
	p.mu.Lock()
	linger := p.lingerUntil
	p.mu.Unlock()
	if !linger.IsZero() {
		awaitGroup(p.Pid(), linger)
	}
	p.launcher.spawnMu.RLock()
	p.mu.Lock()
	// The process is a zombie here, so its id, which is also the id of the group, cannot be reused,
	// and the signal cannot reach another group.
	_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
	p.launcher.table.clear(p.tableEntry)
	p.exit = p.reapZombie()
	p.running = false
	p.mu.Unlock()
	p.launcher.remove(p)
	p.launcher.spawnMu.RUnlock()
	close(p.done)
}

// statusUnknown is the exit code that is reported if other code of this program has reaped the
// process by mistake. In that case, the real exit code is lost, so the task counts as failed.
const statusUnknown = 255

// reapZombie reaps the process after its exit. It returns how the process exited.
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
