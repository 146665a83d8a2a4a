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

// maxrssUnit is the unit of ru_maxrss, which getrusage(2) of macOS returns in bytes.
const maxrssUnit = 1

// errNoMemoryLimit is returned because ctworker can set RLIMIT_AS of another process only on Linux.
var errNoMemoryLimit = errors.New("a memory limit for tasks is supported only on Linux")

// start starts the process. It sets no parent-death signal, so only the guard kills the tasks if
// ctworker is killed.
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

// pollExit returns false, so that the caller calls awaitExit.
func (p *Process) pollExit(time.Duration) bool { return false }

// awaitExit waits until the process has exited. It does not reap the process.
func (p *Process) awaitExit() {
	for delay := initialRetryDelay; ; delay = min(2*delay, maxRetryDelay) {
		if p.awaitExitEvent() {
			return
		}
		<-time.After(delay) // awaitExit must not return yet, because cleanUp would kill the task
	}
}

// awaitExitEvent waits until the process has exited. It returns false if the machine is too short
// of descriptors or memory to wait.
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
		default: // the process has exited; ESRCH means that it exited before the call
			return true
		}
	}
}

// isZombie returns false, because these systems do not show the state of a process in /proc.
func isZombie(int) bool { return false }

// awaitGroup returns immediately, because these systems do not show the members of a process group.
func awaitGroup(int, time.Time) {}

// checkProc returns nil. The warning that orphans cannot be found comes from newOrphans.
func (*Launcher) checkProc() error { return nil }

type orphans struct{}

func newOrphans(*Launcher) (*orphans, error) {
	return nil, errors.New("adopting orphaned processes is supported only on Linux")
}

func (*orphans) close() error { return nil }

// isStopped returns false, because these systems do not show the state of a process in /proc.
func isStopped(int) bool { return false }

// isGone reports whether the process does not exist any more.
func isGone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// isSibling returns true, because these systems do not show the parent of a process in /proc.
func isSibling(int) bool { return true }

// awaitPid sleeps for 10 ms, or for timeout if that is shorter. The caller then tests again whether
// the process has exited.
func awaitPid(_ int, timeout time.Duration) { <-time.After(min(timeout, 10*time.Millisecond)) }

// killMarked does nothing, because these systems do not show the environment of a process.
func killMarked(string) int { return 0 }

// killOrphaned does nothing, because these systems do not show the environment of a process.
func killOrphaned(string, func(int64) bool) {}

// sharedMemory returns a temporary file of size bytes that is already deleted.
func sharedMemory(name string, size int64) (*os.File, error) {
	f, err := os.CreateTemp("", name)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Remove(f.Name()), f.Truncate(size)); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("create shared memory: %w", err)
	}
	return f, nil
}
