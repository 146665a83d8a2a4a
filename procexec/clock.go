package procexec

import "time"

// due is when the clock has to look at the seat next; zero: never.
func (s *seat[J]) due() time.Time {
	if s.proc == nil {
		return time.Time{}
	}
	due := s.processDue()
	if long := s.longDue(); due.IsZero() || !long.IsZero() && long.Before(due) {
		return long
	}
	return due
}

// longDue is when nothing is to wait for the next process any more.
func (s *seat[J]) longDue() time.Time {
	if !s.retired || s.long {
		return time.Time{}
	}
	return s.head.Add(overstay)
}

// hasCome reports whether what is due at a time, if at all, is due by now.
func hasCome(due, now time.Time) bool { return !due.IsZero() && !due.After(now) }

// processDue is when something is to be done to its process.
func (s *seat[J]) processDue() time.Time {
	if !s.giveUp.IsZero() {
		return s.giveUp
	}
	if !s.killAt.IsZero() {
		return s.killAt
	}
	if !s.starting.IsZero() {
		return s.starting
	}
	if s.handed.len() == 0 && len(s.voided) > 0 && s.end == 0 && !s.voidedAt.IsZero() {
		return s.voidedAt.Add(s.c.pool.opts.StartTimeout)
	}
	if s.handed.len() == 0 || s.end != 0 {
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
		wait = min(wait, overstay)
	}
	return s.head.Add(wait)
}

// mayBeUnclaimed reports whether the process may not have claimed its first task yet.
func (s *seat[J]) mayBeUnclaimed() bool {
	return s.ahead && s.answered == 0 && (s.claim == claimUnknown || s.claim == claimOverdue)
}

// watchClaim checks whether the process has claimed its first task, and kills it if it has not
// done so within StartTimeout. A task that is not claimed does not run, so MaxRuntime does not
// apply to it. watchClaim returns false if another deadline of the process is due.
func (s *seat[J]) watchClaim(now time.Time) bool {
	start, waited := s.c.pool.opts.StartTimeout, now.Sub(s.head)
	if !s.mayBeUnclaimed() || waited < min(start, s.c.pool.opts.MaxRuntime) {
		return false
	}
	switch {
	case s.sess.unclaimed() < s.handed.len():
		s.claim = claimed
		return false
	case waited < start:
		s.claim = claimOverdue
	case waited >= start+stoppedFor: // ctworker was suspended, and perhaps the process as well
		s.head = now.Add(stoppedFor/2 - start)
	default:
		s.claim = neverClaimed
		s.kill()
	}
	return true
}

// expect has the clock look at t, if it would not by then.
func (c *crew[J]) expect(t time.Time) {
	if t.IsZero() || !c.nextDue.IsZero() && !t.Before(c.nextDue) {
		return
	}
	c.nextDue = t
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// clock does what comes due, for all seats: one timer serves them all, and costs
// a task nothing.
func (c *crew[J]) clock() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.kick:
		case <-c.over:
			return
		}
		c.mu.Lock()
		now := time.Now()
		c.nextDue = time.Time{}
		for _, s := range c.seats {
			if hasCome(s.due(), now) {
				s.comeDue(now)
			}
			if due := s.due(); !due.IsZero() && (c.nextDue.IsZero() || due.Before(c.nextDue)) {
				c.nextDue = due
			}
		}
		c.watchBacklog(now)
		next := time.Hour
		if !c.nextDue.IsZero() {
			next = max(time.Until(c.nextDue), time.Millisecond)
		}
		c.mu.Unlock()
		timer.Reset(next)
	}
}

// expectBacklog starts the Patience of the jobs that wait for a slot, unless it has started. A job
// can join the backlog while no other deadline is near, so it sets the timer.
func (c *crew[J]) expectBacklog() {
	if c.jobs.Patience > 0 && len(c.backlog) > 0 && c.waits.IsZero() {
		c.waits = time.Now()
		c.expect(c.waits.Add(c.jobs.Patience))
	}
}

// watchBacklog has what waits for long given back.
func (c *crew[J]) watchBacklog(now time.Time) {
	if c.jobs.Patience <= 0 || len(c.backlog) == 0 {
		c.waits = time.Time{}
		return
	}
	if c.waits.IsZero() {
		c.waits = now
	}
	due := c.waits.Add(c.jobs.Patience)
	switch {
	case now.Before(due):
		if c.nextDue.IsZero() || due.Before(c.nextDue) {
			c.nextDue = due
		}
	case !c.stopping:
		c.waits, c.overdue = time.Time{}, true
		c.signal()
	}
}

// comeDue does what has come due.
func (s *seat[J]) comeDue(now time.Time) {
	if hasCome(s.longDue(), now) {
		s.long = true // what would wait for the next process is for whichever slot falls free
		if s.pending.len() > 0 {
			s.unassign()
			s.c.signal()
		}
	}
	if hasCome(s.processDue(), now) {
		s.processComeDue(now)
	}
}

// processComeDue does what is to be done to its process.
func (s *seat[J]) processComeDue(now time.Time) {
	switch {
	case !s.giveUp.IsZero():
		s.giveUp = now.Add(lastWait)
		if s.sess != nil {
			s.sess.interrupt() // somebody else may hold the socket open
		}
	case !s.killAt.IsZero():
		s.kill()
	case !s.starting.IsZero():
		s.late = true
		s.kill()
	case s.handed.len() == 0:
		s.voidedComeDue(now)
	case s.watchClaim(now):
	case now.Sub(s.head) >= s.c.pool.opts.MaxRuntime+stoppedFor:
		// This program has been stopped, as by Ctrl-Z. The task may have ended in
		// time, and its reply be there to be read.
		s.head = now.Add(stoppedFor/2 - s.c.pool.opts.MaxRuntime)
	case now.Sub(s.head) >= s.c.pool.opts.MaxRuntime:
		s.ended(TimedOut)
	default: // it runs for long: others need not wait behind it
		if s.takeBack(s.handed.len()-1) > 0 {
			s.c.signal()
		}
	}
}

// voidedComeDue kills a process that has not returned the tasks that were taken back within
// StartTimeout: it can get no further tasks before it has.
func (s *seat[J]) voidedComeDue(now time.Time) {
	start := s.c.pool.opts.StartTimeout
	if now.Sub(s.voidedAt) >= start+stoppedFor { // ctworker was suspended, and perhaps the process as well
		s.voidedAt = now.Add(stoppedFor/2 - start)
		return
	}
	s.claim = neverClaimed
	s.kill()
}

// stoppedFor is by how much a time-out has to be noticed late for it to count as
// unnoticed because this program did not run.
const stoppedFor = 500 * time.Millisecond
