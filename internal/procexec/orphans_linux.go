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

// orphans catches what tasks leave behind outside of their process group. As
// child subreaper (prctl(2)) this process becomes the parent of every orphan
// among its descendants; one whose task is over is killed, and each is reaped.
//
// An orphan tells what it came from by the mark in its environment. Without a
// mark (env -i) it may belong to any process that ran when it was first seen,
// and is left alone until they have all ended.
type orphans struct {
	launcher *Launcher
	self     int
	stop     chan struct{}
	ended    chan struct{}
	// before are the children that this process had already, from what it was
	// before exec, such as a shell's background jobs. They are none of ours.
	before   map[int]bool
	unmarked map[int]int64 // orphan without a mark → the last process started when it was first seen
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
		o.launcher.opts.Log.Error().Err(p.AsError()).Msg("orphan watcher failed: orphaned processes are killed only at the end of the run")
	}
}

func (o *orphans) watch() {
	ticker := time.NewTicker(orphanInterval)
	defer ticker.Stop()
	clean := int64(-1) // the last process that a scan has found nothing of
	for {
		select {
		case <-o.stop:
			return
		case <-ticker.C:
		}
		lowest, last := o.launcher.oldest()
		if last == clean {
			continue // nothing has run since
		}
		killed, left := o.scan(false)
		// What has been killed may have had children, which are orphans now.
		for len(killed) > 0 && !isClosed(o.stop) {
			awaitPid(killed[0], orphanInterval)
			killed, left = o.scan(false)
		}
		if lowest > last && left == 0 {
			clean = last
		}
	}
}

// scan reaps adopted children that have ended and kills those whose task is
// over, or all. It returns those that it has killed, and how many others there
// were. The children of one that was reaped may be seen by the next scan only.
func (o *orphans) scan(all bool) (killed []int, others int) {
	lowest, _ := o.launcher.oldest()
	seen := map[int]bool{}
	for _, pid := range o.adopted() {
		// What has ended is reaped, whoever it was: it has no mark any more.
		if done, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); done == pid || errors.Is(err, syscall.ECHILD) {
			others++
			continue
		}
		seen[pid] = true
		if !all && !o.isOver(pid, lowest) {
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

// adopted returns the children that the Launcher has not started. They stay
// what they are, zombies included, until they are reaped here.
func (o *orphans) adopted() []int {
	isAdopted := func(pid int) bool { return !o.before[pid] && !o.launcher.isOwn(pid) }
	pids := slices.DeleteFunc(childrenOf(o.self), func(pid int) bool { return !isAdopted(pid) })
	if len(pids) == 0 {
		return nil
	}
	// One of them may have been started, or reaped, just now. With births and
	// deaths stopped for a moment, what they are is certain.
	o.launcher.births.Lock()
	defer o.launcher.births.Unlock()
	return slices.DeleteFunc(pids, func(pid int) bool { return parentOf(pid) != o.self || !isAdopted(pid) })
}

// isOver reports whether nothing can need the orphan any more.
func (o *orphans) isOver(pid int, lowest int64) bool {
	if id, marked := markOf(pid, o.launcher.runID); marked {
		return !o.launcher.isLive(id)
	}
	since, known := o.unmarked[pid]
	if !known {
		// A process that has been started since lowest was found may have
		// left it.
		_, since = o.launcher.oldest()
		o.unmarked[pid] = since
	}
	return lowest > since
}

// close kills and reaps every adopted child.
func (o *orphans) close() error {
	close(o.stop)
	<-o.ended
	deadline := time.Now().Add(closeWait)
	killed, others := o.scan(true)
	for len(killed)+others > 0 && time.Now().Before(deadline) {
		if len(killed) > 0 {
			awaitPid(killed[0], time.Until(deadline))
		}
		killed, others = o.scan(true)
	}
	err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	if len(killed) > 0 {
		err = errors.Join(err, fmt.Errorf("processes %v, which tasks left behind, did not die of SIGKILL", killed))
	}
	return err
}

// awaitPid returns when pid has ended, or after timeout at the latest.
func awaitPid(pid int, timeout time.Duration) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		<-time.After(min(timeout, 10*time.Millisecond)) // no pidfd (Linux before 5.3)
		return
	}
	defer func() { _ = unix.Close(fd) }()
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(timeout.Milliseconds()))
}

// isOwn reports whether pid is a process that the Launcher waits for itself.
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
