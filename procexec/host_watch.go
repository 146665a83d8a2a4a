package procexec

import (
	"fmt"
	"syscall"
	"time"
)

// A task can stop the fork server, its parent, with SIGSTOP. Then nothing can be forked,
// signalled or reaped any more, whatever the limits of the tasks are, and not even the
// run's end would come. So the fork server is asked every second whether it is there.

// slowServer is how long a fork server that is not stopped may take to answer: it does one
// thing at a time, on a machine that may be short of memory.
const slowServer = time.Minute

// stoppedError says that the fork server was killed because it did not answer.
type stoppedError struct {
	pid     int
	stopped bool
	waited  time.Duration
}

// Error says what to do.
func (e *stoppedError) Error() string {
	if e.stopped {
		return fmt.Sprintf("the fork server (process %d) was stopped by a signal for %v and has been killed: "+
			"a task must not send SIGSTOP to its parent process", e.pid, e.waited.Round(100*time.Millisecond))
	}
	return fmt.Sprintf("the fork server (process %d) did not answer for %v and has been killed: "+
		"the machine may be short of memory", e.pid, e.waited.Round(time.Second))
}

// Is makes it a kind of ErrHostGone.
func (e *stoppedError) Is(target error) bool { return target == ErrHostGone }

// setServer takes the fork server's own pid. It is a sibling of this process, so that
// another process that has got its pid is not mistaken for it.
func (h *Host) setServer(pid int) {
	if !isSibling(pid) {
		return
	}
	h.mu.Lock()
	h.server = pid
	h.mu.Unlock()
}

// answered takes the answer to a ping.
func (h *Host) answered() {
	h.mu.Lock()
	h.asked = time.Time{}
	h.mu.Unlock()
}

// watchServer asks the fork server whether it is there, or kills it if it has not
// answered for too long. It is called every orphanInterval.
func (h *Host) watchServer(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	late := time.Since(now) > stoppedFor // this process has been stopped, and maybe the server too
	switch {
	case h.server == 0 || h.gone || h.killedFor != nil:
	case h.asked.IsZero() && len(h.live) > 0, late:
		h.asked = time.Now()
		go func() { _ = h.sendLine(pingLine) }() // it may block for as long as the server does
	case h.asked.IsZero():
	default:
		waited, stopped := now.Sub(h.asked), isStopped(h.server)
		if waited < h.killDelay || !stopped && waited < max(slowServer, h.killDelay) {
			return
		}
		h.killedFor = &stoppedError{h.server, stopped, waited}
		_ = syscall.Kill(h.server, syscall.SIGKILL)
	}
}

var pingLine = []byte("{\"ping\":true}\n")

// awaitServer waits for the fork server's end once the connection has been closed, and
// kills it if it is stopped, or takes too long to end what it has forked.
func (h *Host) awaitServer() {
	h.mu.Lock()
	pid, delay := h.server, h.killDelay
	h.mu.Unlock()
	if pid == 0 {
		return
	}
	var stoppedSince time.Time
	for began := time.Now(); isSibling(pid) && !isGone(pid); {
		now := time.Now()
		switch {
		case !isStopped(pid):
			stoppedSince = time.Time{}
		case stoppedSince.IsZero():
			stoppedSince = now
		}
		if !stoppedSince.IsZero() && now.Sub(stoppedSince) >= delay || now.Sub(began) >= 3*closeWait {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			killAllMarked(h.runID)
			return
		}
		awaitPid(pid, 100*time.Millisecond)
	}
}

// killAllMarked kills what bears a run's mark until nothing does, for a while at most: a
// process that forks while it is looked for is found the next time round.
func killAllMarked(runID string) {
	if runID == "" {
		return
	}
	for deadline := time.Now().Add(closeWait); killMarked(runID) > 0 && time.Now().Before(deadline); {
		continue
	}
}
