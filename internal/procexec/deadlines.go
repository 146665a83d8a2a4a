package procexec

import "time"

// due is when the clock has to look at the seat next; zero: never.
func (s *slot[J]) deadline() time.Time {
	if s.proc == nil {
		return time.Time{}
	}
	due := s.processDeadline()
	if long := s.longTaskAt(); due.IsZero() || !long.IsZero() && long.Before(due) {
		return long
	}
	return due
}

// longDue is when nothing is to wait for the next process any more.
func (s *slot[J]) longTaskAt() time.Time {
	if !s.retired || s.longTask {
		return time.Time{}
	}
	return s.head.Add(longTaskThreshold)
}

// expired reports whether what is due at a time, if at all, is due by now.
func expired(due, now time.Time) bool { return !due.IsZero() && !due.After(now) }

// processDue is when something is to be done to its process.
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
	if s.handed.len() == 0 && len(s.revoked) > 0 && s.ending == 0 && !s.revokedAt.IsZero() {
		return s.revokedAt.Add(s.c.pool.opts.StartTimeout)
	}
	if s.handed.len() == 0 || s.ending != 0 {
		return time.Time{}
	}
	wait := s.c.pool.opts.MaxRuntime
	if s.mayBeUnclaimed() {
		wait = min(wait, s.c.pool.opts.StartTimeout)
	}
	if s.claim == claimOverdue {
		wait = s.c.pool.opts.StartTimeout
	}
	if s.ahead && s.handed.len() > 1 {
		wait = min(wait, longTaskThreshold)
	}
	return s.head.Add(wait)
}

// mayBeUnclaimed reports whether the process may not have claimed its first task yet.
func (s *slot[J]) mayBeUnclaimed() bool {
	return s.ahead && s.replies == 0 && (s.claim == claimUnknown || s.claim == claimOverdue)
}

// watchClaim checks whether the process has claimed its first task, and kills it if it has not
// done so within StartTimeout. A task that is not claimed does not run, so MaxRuntime does not
// apply to it. watchClaim returns false if another deadline of the process is due.
func (s *slot[J]) watchClaim(now time.Time) bool {
	start, waited := s.c.pool.opts.StartTimeout, now.Sub(s.head)
	if !s.mayBeUnclaimed() || waited < min(start, s.c.pool.opts.MaxRuntime) {
		return false
	}
	switch {
	case s.conn.unclaimed() < s.handed.len():
		s.claim = claimed
		return false
	case waited < start:
		s.claim = claimOverdue
	case waited >= start+suspensionThreshold: // ctworker was suspended, and perhaps the process as well
		s.head = now.Add(suspensionThreshold/2 - start)
	default:
		s.claim = neverClaimed
		s.kill()
	}
	return true
}

// expect has the clock look at t, if it would not by then.
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

// clock does what comes due, for all seats: one timer serves them all, and costs
// a task nothing.
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

// expectBacklog starts the Patience of the jobs that wait for a slot, unless it has started. A job
// can join the backlog while no other deadline is near, so it sets the timer.
func (c *scheduler[J]) armBacklogTimer() {
	if c.jobs.MaxQueueTime > 0 && len(c.backlog) > 0 && c.waitingSince.IsZero() {
		c.waitingSince = time.Now()
		c.armTimer(c.waitingSince.Add(c.jobs.MaxQueueTime))
	}
}

// watchBacklog has what waits for long given back.
func (c *scheduler[J]) checkBacklog(now time.Time) {
	if c.jobs.MaxQueueTime <= 0 || len(c.backlog) == 0 {
		c.waitingSince = time.Time{}
		return
	}
	if c.waitingSince.IsZero() {
		c.waitingSince = now
	}
	due := c.waitingSince.Add(c.jobs.MaxQueueTime)
	switch {
	case now.Before(due):
		if c.nextDeadline.IsZero() || due.Before(c.nextDeadline) {
			c.nextDeadline = due
		}
	case !c.stopping:
		c.waitingSince, c.overdue = time.Time{}, true
		c.requestSchedule()
	}
}

// comeDue does what has come due.
func (s *slot[J]) onDeadline(now time.Time) {
	if expired(s.longTaskAt(), now) {
		s.longTask = true // what would wait for the next process is for whichever slot falls free
		if s.pending.len() > 0 {
			s.unassign()
			s.c.requestSchedule()
		}
	}
	if expired(s.processDeadline(), now) {
		s.onProcessDeadline(now)
	}
}

// processComeDue does what is to be done to its process.
func (s *slot[J]) onProcessDeadline(now time.Time) {
	switch {
	case !s.abandonAt.IsZero():
		s.abandonAt = now.Add(lastWait)
		if s.conn != nil {
			s.conn.interrupt() // somebody else may hold the socket open
		}
	case !s.killAt.IsZero():
		s.kill()
	case !s.readyBy.IsZero():
		s.startTimedOut = true
		s.kill()
	case s.handed.len() == 0:
		s.onRevokedDeadline(now)
	case s.watchClaim(now):
	case now.Sub(s.head) >= s.c.pool.opts.MaxRuntime+suspensionThreshold:
		// This program has been stopped, as by Ctrl-Z. The task may have ended in
		// time, and its reply be there to be read.
		s.head = now.Add(suspensionThreshold/2 - s.c.pool.opts.MaxRuntime)
	case now.Sub(s.head) >= s.c.pool.opts.MaxRuntime:
		s.terminate(TimedOut)
	default: // it runs for long: others need not wait behind it
		if s.revoke(s.handed.len()-1) > 0 {
			s.c.requestSchedule()
		}
	}
}

// voidedComeDue kills a process that has not returned the tasks that were taken back within
// StartTimeout: it can get no further tasks before it has.
func (s *slot[J]) onRevokedDeadline(now time.Time) {
	start := s.c.pool.opts.StartTimeout
	if now.Sub(s.revokedAt) >= start+suspensionThreshold { // ctworker was suspended, and perhaps the process as well
		s.revokedAt = now.Add(suspensionThreshold/2 - start)
		return
	}
	s.claim = neverClaimed
	s.kill()
}

// suspensionThreshold is by how much a time-out has to be noticed late for it to count as
// unnoticed because this program did not run.
const suspensionThreshold = 500 * time.Millisecond
