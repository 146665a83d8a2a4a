package procexec

import (
	"fmt"
	"syscall"
	"time"

	"github.com/sourcegraph/conc/panics"
)

// A task can suspend its parent process, the fork server, with SIGSTOP. No process can then be
// forked, signalled or reaped, so time limits would have no effect and the run would never end.
// Therefore this program pings the fork server every second.

// maxPongDelay is how long a fork server that is not suspended may take to answer a ping. The value
// is large, because forking one process can take long when the machine is short of memory.
const maxPongDelay = time.Minute

// unresponsiveError is the reason why a fork server that did not answer was killed.
type unresponsiveError struct {
	pid     int
	stopped bool
	waited  time.Duration
}

// Error returns what happened, and how the user can avoid it.
func (e *unresponsiveError) Error() string {
	if e.stopped {
		return fmt.Sprintf("ctworker killed the fork server (process %d), because it was stopped by a signal for %v: "+
			"a task must not send SIGSTOP to its parent process", e.pid, e.waited.Round(100*time.Millisecond))
	}
	return fmt.Sprintf("ctworker killed the fork server (process %d), because it did not answer for %v: "+
		"the machine may be short of memory; run fewer tasks at once, or use a larger machine", e.pid, e.waited.Round(time.Second))
}

// brokenError is returned if ctworker killed the fork server because of a panic in ctworker.
type brokenError struct{ cause error }

// Error returns the panic.
func (e *brokenError) Error() string {
	return "ctworker closed the connection to the fork server because of a panic in ctworker: " + e.cause.Error()
}

// Is reports whether target is ErrForkServerExited: a fork server that was killed has exited.
func (e *brokenError) Is(target error) bool { return target == ErrForkServerExited }

// Unwrap returns the panic.
func (e *brokenError) Unwrap() error { return e.cause }

// Is reports whether target is ErrForkServerExited: a fork server that was killed has exited.
func (e *unresponsiveError) Is(target error) bool { return target == ErrForkServerExited }

// setPid records the pid that the fork server reports. It ignores the pid of a process that is not
// a sibling of this program, because this program must never kill an unrelated process.
func (h *ForkServer) setPid(pid int) {
	if !isSibling(pid) {
		return
	}
	h.mu.Lock()
	h.pid = pid
	h.mu.Unlock()
}

// onPong records the answer to a ping.
func (h *ForkServer) onPong() {
	h.mu.Lock()
	h.pingSentAt = time.Time{}
	h.mu.Unlock()
}

// checkResponsive is called every orphanInterval. It sends a ping to the fork server if forked
// processes exist and the previous ping was answered. It kills a fork server that has not answered
// a ping for too long.
func (h *ForkServer) checkResponsive(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	suspended := time.Since(now) > suspensionThreshold // this program was suspended, and perhaps the fork server, too
	switch {
	case h.pid == 0 || h.exited || h.killReason != nil:
	case h.pingSentAt.IsZero() && len(h.live) > 0, suspended:
		h.pingSentAt = time.Now()
		go func() { _ = h.sendLine(pingLine) }() // in a goroutine, because it blocks if the fork server does not read
	case h.pingSentAt.IsZero():
	default:
		waited, stopped := now.Sub(h.pingSentAt), isStopped(h.pid)
		if waited < h.killDelay || !stopped && waited < max(maxPongDelay, h.killDelay) {
			return
		}
		h.killReason = &unresponsiveError{h.pid, stopped, waited}
		_ = syscall.Kill(h.pid, syscall.SIGKILL)
	}
}

var pingLine = []byte("{\"ping\":true}\n")

// awaitExit waits for the exit of the fork server after the connection was closed. It kills a fork
// server that is suspended for killDelay, or that does not exit within three times closeTimeout.
func (h *ForkServer) awaitExit() {
	h.mu.Lock()
	pid, delay := h.pid, h.killDelay
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
		if !stoppedSince.IsZero() && now.Sub(stoppedSince) >= delay || now.Sub(began) >= 3*closeTimeout {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			killAllMarked(h.runID)
			return
		}
		awaitPid(pid, 100*time.Millisecond)
	}
}

// killAllMarked kills all processes of the run. It repeats the search until it finds none, because
// a process may fork during a search. It gives up after closeTimeout.
func killAllMarked(runID string) {
	if runID == "" {
		return
	}
	for deadline := time.Now().Add(closeTimeout); killMarked(runID) > 0 && time.Now().Before(deadline); {
		continue
	}
}

// guarded calls f, the body of a goroutine, and recovers a panic in f, for example in
// ForkServerConfig.OnWarning. After a panic, guarded kills the fork server and closes the
// connection, and ExitError returns the panic.
func (h *ForkServer) guarded(f func()) {
	p := panics.Try(f)
	if p == nil {
		return
	}
	h.mu.Lock()
	if h.killReason == nil {
		h.killReason = &brokenError{p.AsError()}
	}
	server := h.pid
	h.mu.Unlock()
	if server > 1 {
		_ = syscall.Kill(server, syscall.SIGKILL)
	}
	_ = h.conn.Close() // makes receive return, and makes the fork server kill its forks
}
