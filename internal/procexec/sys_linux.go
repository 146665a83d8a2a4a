package procexec

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxrssUnit is the unit of ru_maxrss: kibibytes (getrusage(2)).
const maxrssUnit = 1024

// start starts the process. It runs on the Launcher's spawnThread.
func (p *Process) start(spec *Spec, env []string) error {
	pidfd := -1
	attr := &syscall.ProcAttr{
		Dir:   spec.Dir,
		Env:   env,
		Files: spec.Files,
		Sys: &syscall.SysProcAttr{
			Setpgid: true, Pdeathsig: syscall.SIGKILL, PidFD: &pidfd,
			// The limit must apply to the first instruction and to each child:
			// a traced process stops before its program begins.
			Ptrace: spec.MemoryLimit > 0,
		},
	}
	pid, _, err := syscall.StartProcess(spec.Path, spec.Args, attr)
	if attr.Sys.Ptrace && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS)) {
		// Tracing is forbidden here, so the limit is set shortly after the start.
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
			return fmt.Errorf("limit memory: %w", err)
		}
	}
	return nil
}

// limitMemory limits the address space of a process that has just been started. A stopped
// process is continued.
func limitMemory(pid int, bytes uint64, stopped bool) error {
	if stopped {
		waitid(unix.P_PID, pid, unix.WEXITED|unix.WSTOPPED)
	}
	err := unix.Prlimit(pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: bytes, Max: bytes}, nil)
	if stopped {
		err = errors.Join(err, unix.PtraceDetach(pid))
	}
	if errors.Is(err, unix.ESRCH) {
		return nil // the process was killed in the meantime
	}
	return err
}

// pollExit reports whether the process exits within d. It blocks a thread, because a blocked
// thread wakes up fastest; so the number of concurrent calls must be limited.
func (p *Process) pollExit(d time.Duration) bool {
	if p.pidfd < 0 {
		return false
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}, int(d.Milliseconds()))
	return n == 1 && err == nil
}

// awaitExit waits until the process has exited, and does not reap it.
func (p *Process) awaitExit() {
	// The runtime's poller waits for a non-blocking descriptor. A blocking one
	// would occupy a thread per process.
	if p.pidfd >= 0 && unix.SetNonblock(p.pidfd, true) == nil {
		f := os.NewFile(uintptr(p.pidfd), "pidfd")
		p.pidfd = -1 // f owns it now
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
	waitid(unix.P_PID, p.Pid(), unix.WEXITED) // no pidfd (Linux before 5.4): wait on a thread
}

// isZombie reports whether a child process has exited and not been reaped.
func isZombie(pid int) bool { return waitid(unix.P_PID, pid, unix.WEXITED|unix.WNOHANG) }

// awaitGroup waits until no process of the group is alive, or until deadline.
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

// waitid waits for the state change of a process that flags specify, without reaping the
// process. It reports whether the change has happened, or can never happen.
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
