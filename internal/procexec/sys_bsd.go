//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package procexec

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxrssUnit is the unit of ru_maxrss: bytes on macOS (getrusage(2)).
const maxrssUnit = 1

// errNoMemoryLimit is returned because RLIMIT_AS of another process cannot be set here.
var errNoMemoryLimit = errors.New("a memory limit for tasks is supported only on Linux")

// start starts the process. There is no parent-death signal here: only the guard kills the
// tasks of a worker that was killed.
func (p *Process) start(spec *Spec, env []string) error {
	if spec.MemoryLimit > 0 {
		return errNoMemoryLimit
	}
	pid, _, err := syscall.StartProcess(spec.Path, spec.Args, &syscall.ProcAttr{
		Dir:   spec.Dir,
		Env:   env,
		Files: spec.Files,
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return err
	}
	p.pid.Store(int64(pid))
	return nil
}

// pollExit returns false: a short wait is not implemented here.
func (p *Process) pollExit(time.Duration) bool { return false }

// awaitExit waits until the process has exited, and does not reap it.
func (p *Process) awaitExit() {
	for delay := initialRetryDelay; ; delay = min(2*delay, maxRetryDelay) {
		if p.awaitExitEvent() {
			return
		}
		<-time.After(delay) // the caller would kill a running task if awaitExit returned now
	}
}

// awaitExitEvent reports whether the process has exited. It returns false if the machine is
// short of the resources for waiting.
func (p *Process) awaitExitEvent() bool {
	kq, err := unix.Kqueue()
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(kq) }()
	var change unix.Kevent_t
	unix.SetKevent(&change, p.Pid(), unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	change.Fflags = unix.NOTE_EXIT
	events := make([]unix.Kevent_t, 1)
	for {
		_, err := unix.Kevent(kq, []unix.Kevent_t{change}, events, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOMEM):
			return false
		default: // it has exited; ESRCH: before the call
			return true
		}
	}
}

// isZombie returns false: the state of a process is not available here.
func isZombie(int) bool { return false }

// awaitGroup returns immediately: the members of a group are not available here.
func awaitGroup(int, time.Time) {}

// checkProc returns nil: newOrphans already reports that orphans cannot be found here.
func (*Launcher) checkProc() error { return nil }

type orphans struct{}

func newOrphans(*Launcher) (*orphans, error) {
	return nil, errors.New("adopting orphaned processes is supported only on Linux")
}

func (*orphans) close() error { return nil }

// isStopped returns false: the state of a process is not available here.
func isStopped(int) bool { return false }

// isGone reports whether the process does not exist.
func isGone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// isSibling returns true: the parent of another process is not available here.
func isSibling(int) bool { return true }

// awaitPid sleeps for up to 10 ms, as it cannot wait for the exit of a process here.
func awaitPid(_ int, timeout time.Duration) { <-time.After(min(timeout, 10*time.Millisecond)) }

// killMarked does nothing: the environment of another process is not available here.
func killMarked(string) int { return 0 }

// killOrphaned does nothing: the environment of another process is not available here.
func killOrphaned(string, func(int64) bool) {}

// sharedMemory returns a file of size bytes without a name.
func sharedMemory(name string, size int64) (*os.File, error) {
	f, err := os.CreateTemp("", name)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Remove(f.Name()), f.Truncate(size)); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	return f, nil
}
