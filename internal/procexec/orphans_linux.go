package procexec

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/sourcegraph/conc/panics"
	"golang.org/x/sys/unix"
)

// orphans kills processes that tasks leave behind outside of their process groups. This program is
// a child subreaper (prctl(2)), so any descendant whose parent exits becomes a child of this
// program. Such an orphan is killed when its task has ended, and is always reaped.
//
// An orphan inherits the environment variable CTWORKER_PROCESS, the marker, which identifies its
// task. An orphan without a marker, for example one started by "env -i", may belong to any process
// that was running when the orphan was found. It is killed when all these processes have exited.
type orphans struct {
	launcher *Launcher
	self     int
	stop     chan struct{}
	ended    chan struct{}
	// before holds the children that this process already had when the Launcher was created. For
	// example, a shell may start background jobs and then replace itself by this program with exec.
	// These children are not orphans of tasks.
	before   map[int]bool
	unmarked map[int]int64 // orphans without a marker → number of the last process started before the orphan was found
}

func newOrphans(l *Launcher) (*orphans, error) {
	o := &orphans{
		launcher: l, self: os.Getpid(),
		stop: make(chan struct{}), ended: make(chan struct{}),
		before: map[int]bool{}, unmarked: map[int]int64{},
	}
	for _, pid := range childrenOf(o.self) {
		o.before[pid] = true
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("adopt orphaned processes (PR_SET_CHILD_SUBREAPER): %w", err)
	}
	go o.run()
	return o, nil
}

func (o *orphans) run() {
	defer close(o.ended)
	if p := panics.Try(o.watch); p != nil { // the run continues, because close still kills the orphans
		o.launcher.opts.Log.Error().Err(p.AsError()).Msg("could not watch for orphaned processes; they are killed only at the end of the run")
	}
}

func (o *orphans) watch() {
	ticker := time.NewTicker(orphanInterval)
	defer ticker.Stop()
	clean := int64(-1) // number of the last process started before a scan that found nothing to watch
	for {
		select {
		case <-o.stop:
			return
		case <-ticker.C:
		}
		lowest, last := o.launcher.oldest()
		if last == clean {
			continue // no process was started since that scan, so there are no new orphans
		}
		killed, others := o.scan(false)
		// The children of the killed processes have become orphans, so scan again.
		for len(killed) > 0 && !isClosed(o.stop) {
			awaitPid(killed[0], orphanInterval)
			killed, others = o.scan(false)
		}
		if lowest > last && others == 0 {
			clean = last
		}
	}
}

// scan goes through all adopted children once. It reaps children that have exited. It kills
// children whose task has ended, or every child if all is true. It returns the killed children, and
// the number of all other children, including the reaped ones. Children of a reaped process may
// become visible only in the next scan.
func (o *orphans) scan(all bool) (killed []int, others int) {
	lowest, _ := o.launcher.oldest()
	seen := map[int]bool{}
	for _, pid := range o.adopted() {
		// Try to reap each child before the marker is read, because a zombie has no environment.
		if done, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); done == pid || errors.Is(err, syscall.ECHILD) {
			others++
			continue
		}
		seen[pid] = true
		if !all && !o.taskEnded(pid, lowest) {
			others++
			continue
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
		killed = append(killed, pid)
	}
	for pid := range o.unmarked {
		if !seen[pid] {
			delete(o.unmarked, pid)
		}
	}
	return killed, others
}

// adopted returns the children of this process, zombies included, that the Launcher did not start
// and that are not in before. Only scan reaps them.
func (o *orphans) adopted() []int {
	isAdopted := func(pid int) bool { return !o.before[pid] && !o.launcher.isOwn(pid) }
	pids := slices.DeleteFunc(childrenOf(o.self), func(pid int) bool { return !isAdopted(pid) })
	if len(pids) == 0 {
		return nil
	}
	// A process in the list may be one that the Launcher has just started or reaped. Check again
	// while spawnMu prevents the Launcher from starting and reaping processes.
	o.launcher.spawnMu.Lock()
	defer o.launcher.spawnMu.Unlock()
	return slices.DeleteFunc(pids, func(pid int) bool { return parentOf(pid) != o.self || !isAdopted(pid) })
}

// taskEnded reports whether the task of an orphan has ended. lowest is a result of Launcher.oldest:
// the lowest number of a running process.
func (o *orphans) taskEnded(pid int, lowest int64) bool {
	if id, marked := envMarkerOf(pid, o.launcher.runID); marked {
		return !o.launcher.isLive(id)
	}
	since, known := o.unmarked[pid]
	if !known {
		// Ask again, because processes may have been started since the caller determined lowest,
		// and the orphan may belong to one of those processes.
		_, since = o.launcher.oldest()
		o.unmarked[pid] = since
	}
	return lowest > since
}

// close kills and reaps all adopted children. It gives up after closeTimeout.
func (o *orphans) close() error {
	close(o.stop)
	<-o.ended
	deadline := time.Now().Add(closeTimeout)
	killed, others := o.scan(true)
	for len(killed)+others > 0 && time.Now().Before(deadline) {
		if len(killed) > 0 {
			awaitPid(killed[0], time.Until(deadline))
		}
		killed, others = o.scan(true)
	}
	err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	if len(killed) > 0 {
		err = errors.Join(err, fmt.Errorf("orphaned processes %v of tasks did not exit within %v after SIGKILL", killed, closeTimeout))
	}
	return err
}

// awaitPid waits until the process pid has exited, for at most timeout.
func awaitPid(pid int, timeout time.Duration) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		// Before Linux 5.3, there is no pidfd to wait for. The caller tests again after 10 ms.
		<-time.After(min(timeout, 10*time.Millisecond))
		return
	}
	defer func() { _ = unix.Close(fd) }()
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(timeout.Milliseconds()))
}

// isOwn reports whether pid is the guard, or a process that the Launcher started and has not
// reaped.
func (l *Launcher) isOwn(pid int) bool {
	if l.guard != nil && l.guard.process.Pid == pid {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.live {
		if p.Pid() == pid {
			return true
		}
	}
	return false
}
