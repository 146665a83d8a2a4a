package procexec

import "time"

// longTaskThreshold is the run time after which the tasks that wait behind a task are revoked, and
// no job waits for the end of its process.
const longTaskThreshold = 20 * time.Millisecond

// suspensionThreshold is how late a deadline must be noticed to conclude that this program was
// suspended, for example by Ctrl-Z.
const suspensionThreshold = 500 * time.Millisecond

func (l *loop[J, R]) setLimit(w *poolProcess[J], at time.Time) { l.deadlines.set(&w.limit, at) }

// updateLimit sets the deadline of a process to that of its state. In the states from retiring on,
// the deadline was set when the state began.
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

// headLimit returns the time after which the running task of a busy process must be checked.
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

// mayBeUnclaimed reports whether the process may not have claimed its first task yet.
func (w *poolProcess[J]) mayBeUnclaimed() bool {
	return w.prefetches && w.replies == 0 && (w.claim == claimUnknown || w.claim == claimOverdue)
}

// onLimit applies the deadline of a process, which has passed.
func (l *loop[J, R]) onLimit(w *poolProcess[J], now time.Time) {
	switch w.state {
	case starting:
		w.startTimedOut = true
		l.kill(w)
	case busy:
		l.onHeadLimit(w, now)
		if l.updateLimit(w); w.limit.index >= 0 && w.state == busy && !w.limit.at.After(now) {
			l.setLimit(w, now.Add(longTaskThreshold)) // the tasks behind the running one could not be revoked
		}
	case returning:
		l.onReturnLimit(w, now)
	case retiring, terminating:
		l.kill(w)
	case killed:
		l.onKillLimit(w, now)
	default: // the deadline is cleared in these states
	}
	l.want(w.slot)
}

// onHeadLimit checks the running task of a busy process.
func (l *loop[J, R]) onHeadLimit(w *poolProcess[J], now time.Time) {
	limit, elapsed := l.pool.opts.MaxRuntime, now.Sub(w.headStartedAt)
	switch {
	case l.checkClaim(w, now):
	case elapsed >= limit+suspensionThreshold:
		// ctworker was suspended. The task may have finished in time, so its reply is read first.
		w.headStartedAt = now.Add(suspensionThreshold/2 - limit)
	case elapsed >= limit:
		l.terminate(w, TimedOut)
	case elapsed >= longTaskThreshold: // no other task may wait behind it
		w.isLong = true
		l.revoke(w, w.sent.len()-1)
	}
}

// checkClaim checks whether the process has claimed its first task, and kills it if it has not done
// so within StartTimeout. A task that is not claimed does not run, so MaxRuntime does not apply to
// it. checkClaim returns false if the running task must be checked.
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
	case waited >= start+suspensionThreshold: // ctworker was suspended, and perhaps the process as well
		w.headStartedAt = now.Add(suspensionThreshold/2 - start)
	default:
		w.claim = neverClaimed
		l.kill(w)
	}
	return true
}

// onReturnLimit kills a process that has not returned the revoked tasks in time. It gets no further
// tasks before it has returned them.
func (l *loop[J, R]) onReturnLimit(w *poolProcess[J], now time.Time) {
	if now.Sub(w.returnBy) >= suspensionThreshold { // ctworker was suspended, and perhaps the process as well
		w.returnBy = now.Add(suspensionThreshold / 2)
		l.updateLimit(w)
		return
	}
	w.claim = neverClaimed
	l.kill(w)
}

// onKillLimit ends the wait for what a killed process wrote, because another process may hold the
// socket open, and then the wait for its exit.
func (l *loop[J, R]) onKillLimit(w *poolProcess[J], now time.Time) {
	if w.readDone {
		l.gone(w)
		return
	}
	l.setLimit(w, now.Add(sigkillTimeout))
	w.conn.Interrupt()
}
