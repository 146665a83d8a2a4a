package procexec

import (
	"fmt"
	"syscall"
	"time"

	"github.com/sourcegraph/conc/panics"
)

// A task can suspend the fork server, its parent process, with SIGSTOP. Then no process can be
// forked, signalled or reaped, time limits have no effect, and the run does not end. Therefore
// a ping is sent to the fork server every second.

// maxPongDelay is the time within which a fork server that is not suspended must answer a ping.
// It handles one request at a time, and the machine may be short of memory.
const maxPongDelay = time.Minute

// unresponsiveError is the reason for killing a fork server that did not answer.
type unresponsiveError struct {
	pid     int
	stopped bool
	waited  time.Duration
}

// Error returns what happened and how to avoid it.
func (e *unresponsiveError) Error() string {
	if e.stopped {
		return fmt.Sprintf("fork server (process %d) killed because it was stopped by a signal for %v: "+
			"a task must not send SIGSTOP to its parent process", e.pid, e.waited.Round(100*time.Millisecond))
	}
	return fmt.Sprintf("fork server (process %d) killed because it did not answer for %v: "+
		"the machine may be short of memory", e.pid, e.waited.Round(time.Second))
}

// Is reports whether target is ErrForkServerExited.
func (e *unresponsiveError) Is(target error) bool { return target == ErrForkServerExited }

// setPid records the pid that the fork server has reported. It ignores a pid that is not a
// sibling of this process, so that no unrelated process is killed.
func (h *ForkServer) setPid(pid int) {
	if !isSibling(pid) {
		return
	}
	h.mu.Lock()
	h.pid = pid
	h.mu.Unlock()
}

// answered records the answer to a ping.
func (h *ForkServer) onPong() {
	h.mu.Lock()
	h.pingSentAt = time.Time{}
	h.mu.Unlock()
}

// checkResponsive sends a ping to the fork server, or kills it if it has not answered for too
// long. It is called every orphanInterval.
func (h *ForkServer) checkResponsive(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	suspended := time.Since(now) > suspensionThreshold // ctworker was suspended, and perhaps the fork server as well
	switch {
	case h.pid == 0 || h.exited || h.killReason != nil:
	case h.pingSentAt.IsZero() && len(h.live) > 0, suspended:
		h.pingSentAt = time.Now()
		go func() { _ = h.sendLine(pingLine) }() // blocks while the fork server does not read
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

// awaitExit waits until the fork server has exited after the connection was closed. It kills a
// fork server that is suspended, or that takes too long to kill its forks.
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

// killAllMarked kills all processes that belong to the run. It scans until it finds none, or
// for closeTimeout, because a process may fork during a scan.
func killAllMarked(runID string) {
	if runID == "" {
		return
	}
	for deadline := time.Now().Add(closeTimeout); killMarked(runID) > 0 && time.Now().Before(deadline); {
		continue
	}
}

// guarded calls f, the body of a goroutine. A panic in f, for example in
// ForkServerConfig.OnWarning, ends the connection and the fork server. ExitError then returns
// the panic.
func (h *ForkServer) guarded(f func()) {
	p := panics.Try(f)
	if p == nil {
		return
	}
	h.mu.Lock()
	if h.killReason == nil {
		h.killReason = fmt.Errorf("%w: its connection failed: %w", ErrForkServerExited, p.AsError())
	}
	server := h.pid
	h.mu.Unlock()
	if server > 1 {
		_ = syscall.Kill(server, syscall.SIGKILL)
	}
	_ = h.conn.Close() // ends receive, and makes the fork server kill its forks
}
