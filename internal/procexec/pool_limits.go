package procexec

import (
	"time"

	"github.com/ctworker/ctworker/internal/outcome"
)

// longTaskThreshold is the run time after which a task no longer counts as short. The tasks that
// wait behind it in the same process are then taken back, and run in other processes.
const longTaskThreshold = 20 * time.Millisecond

// suspensionThreshold distinguishes a program that was suspended, for example by Ctrl-Z, from a
// slow program. If the program notices a deadline more than suspensionThreshold late, the program
// was probably suspended: even on a busy machine, timers are rarely that late.
const suspensionThreshold = 500 * time.Millisecond

func (l *loop[J, R]) setLimit(w *poolProcess[J], at time.Time) { l.deadlines.set(&w.limit, at) }

// updateLimit sets the deadline of a process according to its state. For the states retiring,
// terminating and killed, the deadline was set when the state began.
func (l *loop[J, R]) updateLimit(w *poolProcess[J]) {
	switch w.state {
	case starting:
		l.setLimit(w, w.launchedAt.Add(l.pool.opts.StartTimeout))
	case busy:
		l.setLimit(w, w.headStartedAt.Add(l.headLimit(w)))
	case returning:
		l.setLimit(w, w.returnBy)
	case retiring, terminating, killed:
	default:
		l.deadlines.clear(&w.limit)
	}
}

// headLimit returns the run time after which the running task of a busy process must be checked.
func (l *loop[J, R]) headLimit(w *poolProcess[J]) time.Duration {
	opts := &l.pool.opts
	limit := opts.MaxRuntime
	switch {
	case w.claim == claimOverdue:
		limit = opts.StartTimeout
	case w.mayBeUnclaimed():
		limit = min(limit, opts.StartTimeout)
	}
	if w.prefetches && w.sent.len() > 1 || w.inputClosed && !w.isLong {
		limit = min(limit, longTaskThreshold)
	}
	return limit
}

// mayBeUnclaimed reports whether the process must claim tasks (announce that it starts them), and
// is not known to have claimed its first task.
func (w *poolProcess[J]) mayBeUnclaimed() bool {
	return w.prefetches && w.replies == 0 && (w.claim == claimUnknown || w.claim == claimOverdue)
}

// onLimit is called when the deadline of a process has passed.
func (l *loop[J, R]) onLimit(w *poolProcess[J], now time.Time) {
	switch w.state {
	case starting:
		w.startTimedOut = true
		l.kill(w)
	case busy:
		l.onHeadLimit(w, now)
		if l.updateLimit(w); w.limit.index >= 0 && w.state == busy && !w.limit.at.After(now) {
			l.setLimit(w, now.Add(longTaskThreshold)) // no task could be taken back, so try again later
		}
	case returning:
		l.onReturnLimit(w, now)
	case retiring, terminating:
		l.kill(w)
	case killed:
		l.onKillLimit(w, now)
	default: // these states have no deadline
	}
	l.want(w.slot)
}

// onHeadLimit checks the running task of a busy process when its deadline has passed.
func (l *loop[J, R]) onHeadLimit(w *poolProcess[J], now time.Time) {
	limit, elapsed := l.pool.opts.MaxRuntime, now.Sub(w.headStartedAt)
	switch {
	case l.checkClaim(w, now):
	case elapsed >= limit+suspensionThreshold:
		// The deadline was noticed so late that ctworker must have been suspended. The task may
		// have finished in time, so allow 250 ms to read its reply.
		w.headStartedAt = now.Add(suspensionThreshold/2 - limit)
	case elapsed >= limit:
		l.terminate(w, outcome.TimedOut)
	case elapsed >= longTaskThreshold: // let other processes run the tasks that wait behind it
		w.isLong = true
		l.revoke(w, w.sent.len()-1)
	}
}

// checkClaim kills a process that has not claimed its first task within StartTimeout. To claim a
// task means to announce that it starts. MaxRuntime does not apply, because the task does not run
// yet. checkClaim returns false if the caller must check the run time of the task instead.
func (l *loop[J, R]) checkClaim(w *poolProcess[J], now time.Time) bool {
	start, waited := l.pool.opts.StartTimeout, now.Sub(w.headStartedAt)
	if !w.mayBeUnclaimed() || waited < min(start, l.pool.opts.MaxRuntime) {
		return false
	}
	switch {
	case w.conn.Unclaimed() < w.sent.len():
		w.claim = claimed
		return false
	case waited < start:
		w.claim = claimOverdue
	case waited >= start+suspensionThreshold:
		// ctworker was suspended, and perhaps also the process, so allow the process 250 ms more.
		w.headStartedAt = now.Add(suspensionThreshold/2 - start)
	default:
		w.claim = neverClaimed
		l.kill(w)
	}
	return true
}

// onReturnLimit kills a process that has not returned a task in time after the task was taken back.
// Until the process has returned all tasks that were taken back, it gets no further tasks and
// blocks its slot.
func (l *loop[J, R]) onReturnLimit(w *poolProcess[J], now time.Time) {
	if now.Sub(w.returnBy) >= suspensionThreshold {
		// ctworker was suspended, and perhaps also the process, so allow the process 250 ms more.
		w.returnBy = now.Add(suspensionThreshold / 2)
		l.updateLimit(w)
		return
	}
	w.claim = neverClaimed
	l.kill(w)
}

// onKillLimit is called when a process was killed, and its exit or the end of its output is
// overdue. If the output is still being read, onKillLimit ends the reading, because a grandchild
// may hold the socket open. If the reading has already ended, onKillLimit ends the wait for the
// exit of the process.
func (l *loop[J, R]) onKillLimit(w *poolProcess[J], now time.Time) {
	if w.readDone {
		l.gone(w)
		return
	}
	l.setLimit(w, now.Add(sigkillTimeout))
	w.conn.Interrupt()
}
