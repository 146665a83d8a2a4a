package procexec

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxrssUnit is the unit of ru_maxrss, which getrusage(2) returns in kibibytes.
const maxrssUnit = 1024

// start starts the process. It is called through spawnThread.do.
func (p *Process) start(spec *Spec, env []string) error {
	pidfd := -1
	attr := &syscall.ProcAttr{
		Dir:   spec.Dir,
		Env:   env,
		Files: spec.Files,
		Sys: &syscall.SysProcAttr{
			Setpgid: true, Pdeathsig: syscall.SIGKILL, PidFD: &pidfd,
			// A traced process stops before its first instruction. The memory limit can then be set
			// before the program runs and starts children.
			Ptrace: spec.MemoryLimit > 0,
		},
	}
	pid, _, err := syscall.StartProcess(spec.Path, spec.Args, attr)
	if attr.Sys.Ptrace && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS)) {
		// Tracing is forbidden on this machine. Start the process without tracing, and set the
		// limit while the program already runs.
		attr.Sys.Ptrace = false
		pid, _, err = syscall.StartProcess(spec.Path, spec.Args, attr)
	}
	if err != nil {
		return err
	}
	p.pid.Store(int64(pid))
	p.pidfd = pidfd
	if spec.MemoryLimit > 0 {
		if err := limitMemory(pid, uint64(spec.MemoryLimit), attr.Sys.Ptrace); err != nil {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			p.awaitExit()
			p.reapZombie()
			return fmt.Errorf("set the memory limit of the process: %w", err)
		}
	}
	return nil
}

// limitMemory limits the address space of a process that has just been started. stopped means that
// the process is traced and stopped; limitMemory lets it continue.
func limitMemory(pid int, bytes uint64, stopped bool) error {
	if stopped {
		waitid(unix.P_PID, pid, unix.WEXITED|unix.WSTOPPED)
	}
	err := unix.Prlimit(pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: bytes, Max: bytes}, nil)
	if stopped {
		err = errors.Join(err, unix.PtraceDetach(pid))
	}
	if errors.Is(err, unix.ESRCH) {
		return nil // the process has been killed already, which is not an error
	}
	return err
}

// pollExit waits up to d for the exit of the process, and reports whether it exited. It blocks a
// thread, because a blocked thread wakes up faster than a goroutine. The caller must limit the
// number of concurrent calls.
func (p *Process) pollExit(d time.Duration) bool {
	if p.pidfd < 0 {
		return false
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}, int(d.Milliseconds()))
	return n == 1 && err == nil
}

// awaitExit waits until the process has exited. It does not reap the process.
func (p *Process) awaitExit() {
	// Let the poller of the Go runtime wait, because a blocking wait would occupy one thread per
	// process. The poller requires a non-blocking descriptor.
	if p.pidfd >= 0 && unix.SetNonblock(p.pidfd, true) == nil {
		f := os.NewFile(uintptr(p.pidfd), "pidfd")
		p.pidfd = -1 // f closes the descriptor
		defer func() { _ = f.Close() }()
		conn, err := f.SyscallConn()
		if err == nil {
			err = conn.Read(func(fd uintptr) bool {
				return waitid(unix.P_PIDFD, int(fd), unix.WEXITED|unix.WNOHANG)
			})
		}
		if err == nil {
			return
		}
	}
	waitid(unix.P_PID, p.Pid(), unix.WEXITED) // no pidfd (Linux before 5.4): block a thread
}

// isZombie reports whether the child process pid has exited. The process must not have been reaped
// yet.
func isZombie(pid int) bool { return waitid(unix.P_PID, pid, unix.WEXITED|unix.WNOHANG) }

// awaitGroup waits until all processes of the group have exited or are zombies, or until deadline.
func awaitGroup(pgid int, deadline time.Time) {
	for time.Now().Before(deadline) {
		alive := 0
		forEachProcess(func(pid int) {
			if st, ok := statOf(pid); alive == 0 && ok && st.group == pgid && !st.zombie {
				alive = pid
			}
		})
		if alive == 0 {
			return
		}
		awaitPid(alive, time.Until(deadline))
	}
}

// waitid waits for a state change of a process, as waitid(2) does with these flags, and does not
// reap the process. It returns false only with WNOHANG, if the process has not changed its state
// yet.
func waitid(idType, id, flags int) bool {
	for {
		var info unix.Siginfo
		err := unix.Waitid(idType, id, &info, unix.WNOWAIT|flags, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return false
		case err != nil:
			return true // ECHILD: nothing to wait for
		}
		return flags&unix.WNOHANG == 0 || info.Signo != 0
	}
}
