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

// orphans kills processes that tasks leave behind outside of their process group. As child
// subreaper (prctl(2)), this process becomes the parent of every orphan among its descendants.
// An orphan whose task has ended is killed, and every orphan is reaped.
//
// The marker in an orphan's environment identifies its task. An orphan without a marker (env
// -i) may belong to any process that was running when the orphan was first seen, so it is left
// alone until all of those have exited.
type orphans struct {
	launcher *Launcher
	self     int
	stop     chan struct{}
	ended    chan struct{}
	// before holds the children that this process already had, from the program that it was
	// before exec, such as a shell's background jobs. They are ignored.
	before   map[int]bool
	unmarked map[int]int64 // orphan without a marker → number of the last process started when it was first seen
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
		return nil, fmt.Errorf("become child subreaper: %w", err)
	}
	go o.run()
	return o, nil
}

func (o *orphans) run() {
	defer close(o.ended)
	if p := panics.Try(o.watch); p != nil { // the run continues; orphans are still killed at its end
		o.launcher.opts.Log.Error().Err(p.AsError()).Msg("could not watch for orphaned processes; they are killed only at the end of the run")
	}
}

func (o *orphans) watch() {
	ticker := time.NewTicker(orphanInterval)
	defer ticker.Stop()
	clean := int64(-1) // number of the last process for which a scan has found no orphans
	for {
		select {
		case <-o.stop:
			return
		case <-ticker.C:
		}
		lowest, last := o.launcher.oldest()
		if last == clean {
			continue // nothing was started since
		}
		killed, others := o.scan(false)
		// The killed processes may have had children, which are orphans now.
		for len(killed) > 0 && !isClosed(o.stop) {
			awaitPid(killed[0], orphanInterval)
			killed, others = o.scan(false)
		}
		if lowest > last && others == 0 {
			clean = last
		}
	}
}

// scan reaps adopted children that have exited, and kills those whose task has ended, or all.
// It returns the killed ones, and the number of the others. The children of a reaped process
// may appear only in the next scan.
func (o *orphans) scan(all bool) (killed []int, others int) {
	lowest, _ := o.launcher.oldest()
	seen := map[int]bool{}
	for _, pid := range o.adopted() {
		// Reap zombies unconditionally: their environment, and so the marker, is gone.
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

// adopted returns the children that the Launcher has not started. They remain children, zombies
// included, until they are reaped here.
func (o *orphans) adopted() []int {
	isAdopted := func(pid int) bool { return !o.before[pid] && !o.launcher.isOwn(pid) }
	pids := slices.DeleteFunc(childrenOf(o.self), func(pid int) bool { return !isAdopted(pid) })
	if len(pids) == 0 {
		return nil
	}
	// One of them may have been started or reaped just now. While no process can be
	// started or reaped, check again.
	o.launcher.spawnMu.Lock()
	defer o.launcher.spawnMu.Unlock()
	return slices.DeleteFunc(pids, func(pid int) bool { return parentOf(pid) != o.self || !isAdopted(pid) })
}

// taskEnded reports whether the task of an orphan has ended. lowest is the lowest number of a
// running process.
func (o *orphans) taskEnded(pid int, lowest int64) bool {
	if id, marked := envMarkerOf(pid, o.launcher.runID); marked {
		return !o.launcher.isLive(id)
	}
	since, known := o.unmarked[pid]
	if !known {
		// The orphan may belong to a process that was started after lowest was
		// determined.
		_, since = o.launcher.oldest()
		o.unmarked[pid] = since
	}
	return lowest > since
}

// close kills and reaps all adopted children.
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
		err = errors.Join(err, fmt.Errorf("orphaned processes %v of tasks did not exit after SIGKILL", killed))
	}
	return err
}

// awaitPid waits until the process pid has exited, for at most timeout.
func awaitPid(pid int, timeout time.Duration) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		<-time.After(min(timeout, 10*time.Millisecond)) // no pidfd (Linux before 5.3)
		return
	}
	defer func() { _ = unix.Close(fd) }()
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(timeout.Milliseconds()))
}

// isOwn reports whether pid is a process that the Launcher has started and waits for.
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
