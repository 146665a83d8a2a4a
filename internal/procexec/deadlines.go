package procexec

import "time"

// deadline returns the earliest deadline of the slot, or the zero time if it has none.
func (s *slot[J]) deadline() time.Time {
	if s.proc == nil {
		return time.Time{}
	}
	due := s.processDeadline()
	if longTaskAt := s.longTaskAt(); due.IsZero() || !longTaskAt.IsZero() && longTaskAt.Before(due) {
		return longTaskAt
	}
	return due
}

// longTaskAt returns the time from which no job may wait for the next process any more, or the
// zero time.
func (s *slot[J]) longTaskAt() time.Time {
	if !s.inputClosed || s.longTask {
		return time.Time{}
	}
	return s.headStartedAt.Add(longTaskThreshold)
}

// expired reports whether a deadline, if not zero, has passed.
func expired(due, now time.Time) bool { return !due.IsZero() && !due.After(now) }

// processDeadline returns the deadline of the slot's process in its current state, or the zero
// time. onProcessDeadline applies it.
func (s *slot[J]) processDeadline() time.Time {
	if !s.abandonAt.IsZero() {
		return s.abandonAt
	}
	if !s.killAt.IsZero() {
		return s.killAt
	}
	if !s.readyBy.IsZero() {
		return s.readyBy
	}
	if s.sent.len() == 0 && len(s.revoked) > 0 && s.stopReason == 0 && !s.revokedAt.IsZero() {
		return s.revokedAt.Add(s.sched.pool.opts.StartTimeout)
	}
	if s.sent.len() == 0 || s.stopReason != 0 {
		return time.Time{}
	}
	wait := s.sched.pool.opts.MaxRuntime
	if s.mayBeUnclaimed() {
		wait = min(wait, s.sched.pool.opts.StartTimeout)
	}
	if s.claim == claimOverdue {
		wait = s.sched.pool.opts.StartTimeout
	}
	if s.prefetches && s.sent.len() > 1 {
		wait = min(wait, longTaskThreshold)
	}
	return s.headStartedAt.Add(wait)
}

// mayBeUnclaimed reports whether the process may not have claimed its first task yet.
func (s *slot[J]) mayBeUnclaimed() bool {
	return s.prefetches && s.replies == 0 && (s.claim == claimUnknown || s.claim == claimOverdue)
}

// watchClaim checks whether the process has claimed its first task, and kills it if it has not
// done so within StartTimeout. A task that is not claimed does not run, so MaxRuntime does not
// apply to it. watchClaim returns false if another deadline of the process is due.
func (s *slot[J]) watchClaim(now time.Time) bool {
	start, waited := s.sched.pool.opts.StartTimeout, now.Sub(s.headStartedAt)
	if !s.mayBeUnclaimed() || waited < min(start, s.sched.pool.opts.MaxRuntime) {
		return false
	}
	switch {
	case s.conn.Unclaimed() < s.sent.len():
		s.claim = claimed
		return false
	case waited < start:
		s.claim = claimOverdue
	case waited >= start+suspensionThreshold: // ctworker was suspended, and perhaps the process as well
		s.headStartedAt = now.Add(suspensionThreshold/2 - start)
	default:
		s.claim = neverClaimed
		s.kill()
	}
	return true
}

// armTimer makes runTimers check the deadlines at t, unless it will do so earlier.
func (c *scheduler[J]) armTimer(t time.Time) {
	if t.IsZero() || !c.nextDeadline.IsZero() && !t.Before(c.nextDeadline) {
		return
	}
	c.nextDeadline = t
	select {
	case c.timerReset <- struct{}{}:
	default:
	}
}

// runTimers applies the deadlines of all slots with a single timer, which causes no cost per
// task.
func (c *scheduler[J]) runTimers() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.timerReset:
		case <-c.done:
			return
		}
		c.mu.Lock()
		now := time.Now()
		c.nextDeadline = time.Time{}
		for _, s := range c.slots {
			if expired(s.deadline(), now) {
				s.onDeadline(now)
			}
			if due := s.deadline(); !due.IsZero() && (c.nextDeadline.IsZero() || due.Before(c.nextDeadline)) {
				c.nextDeadline = due
			}
		}
		c.checkBacklog(now)
		next := time.Hour
		if !c.nextDeadline.IsZero() {
			next = max(time.Until(c.nextDeadline), time.Millisecond)
		}
		c.mu.Unlock()
		timer.Reset(next)
	}
}

// armBacklogTimer starts the MaxQueueTime of the jobs in the backlog, unless it has started. A
// job can join the backlog while no other deadline is near, so armBacklogTimer arms the timer.
func (c *scheduler[J]) armBacklogTimer() {
	if c.config.MaxQueueTime > 0 && len(c.backlog) > 0 && c.waitingSince.IsZero() {
		c.waitingSince = time.Now()
		c.armTimer(c.waitingSince.Add(c.config.MaxQueueTime))
	}
}

// checkBacklog requests the release of the backlog if it has been stuck for MaxQueueTime.
func (c *scheduler[J]) checkBacklog(now time.Time) {
	if c.config.MaxQueueTime <= 0 || len(c.backlog) == 0 {
		c.waitingSince = time.Time{}
		return
	}
	if c.waitingSince.IsZero() {
		c.waitingSince = now
	}
	due := c.waitingSince.Add(c.config.MaxQueueTime)
	switch {
	case now.Before(due):
		if c.nextDeadline.IsZero() || due.Before(c.nextDeadline) {
			c.nextDeadline = due
		}
	case !c.stopping:
		c.waitingSince, c.backlogOverdue = time.Time{}, true
		c.requestSchedule()
	}
}

// onDeadline applies the deadlines of the slot that have passed.
func (s *slot[J]) onDeadline(now time.Time) {
	if expired(s.longTaskAt(), now) {
		s.longTask = true // jobs that wait for the next process go to the next free slot instead
		if s.pending.len() > 0 {
			s.unassign()
			s.sched.requestSchedule()
		}
	}
	if expired(s.processDeadline(), now) {
		s.onProcessDeadline(now)
	}
}

// onProcessDeadline applies the deadline of the slot's process. Its cases are in the order of
// processDeadline.
func (s *slot[J]) onProcessDeadline(now time.Time) {
	switch {
	case !s.abandonAt.IsZero():
		s.abandonAt = now.Add(sigkillTimeout)
		if s.conn != nil {
			s.conn.Interrupt() // another process may hold the socket open
		}
	case !s.killAt.IsZero():
		s.kill()
	case !s.readyBy.IsZero():
		s.startTimedOut = true
		s.kill()
	case s.sent.len() == 0:
		s.onRevokedDeadline(now)
	case s.watchClaim(now):
	case now.Sub(s.headStartedAt) >= s.sched.pool.opts.MaxRuntime+suspensionThreshold:
		// ctworker was suspended, for example by Ctrl-Z. The task may have finished in
		// time, so its reply is read first.
		s.headStartedAt = now.Add(suspensionThreshold/2 - s.sched.pool.opts.MaxRuntime)
	case now.Sub(s.headStartedAt) >= s.sched.pool.opts.MaxRuntime:
		s.terminate(TimedOut)
	default: // the task runs for long: no other task may wait behind it
		if s.revoke(s.sent.len()-1) > 0 {
			s.sched.requestSchedule()
		}
	}
}

// onRevokedDeadline kills a process that has not returned the revoked tasks within
// StartTimeout. It gets no further tasks before it has returned them.
func (s *slot[J]) onRevokedDeadline(now time.Time) {
	start := s.sched.pool.opts.StartTimeout
	if now.Sub(s.revokedAt) >= start+suspensionThreshold { // ctworker was suspended, and perhaps the process as well
		s.revokedAt = now.Add(suspensionThreshold/2 - start)
		return
	}
	s.claim = neverClaimed
	s.kill()
}

// suspensionThreshold is how late a time-out must be noticed to conclude that this program was
// suspended.
const suspensionThreshold = 500 * time.Millisecond
