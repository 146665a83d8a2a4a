package procexec

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// read takes what the process says until it says no more, and returns why.
func (s *slot[J]) read(sess *conn) error {
	for {
		line, err := sess.next()
		if errors.Is(err, errCorruptRing) {
			s.c.mu.Lock()
			s.protocolErr = err.Error()
			s.kill()
			s.c.mu.Unlock()
		}
		if err != nil && !errors.Is(err, errLineTooLong) {
			return err
		}
		if !s.onLine(line, errors.Is(err, errLineTooLong)) {
			return nil
		}
	}
}

// take takes one line. It returns false where no more is to be read.
func (s *slot[J]) onLine(line []byte, over bool) bool {
	c := s.c
	c.mu.Lock()
	expected := ""
	if s.handed.len() > 0 {
		expected = s.handed.first().task.ID
	}
	c.mu.Unlock()
	// Only this goroutine takes the first of handed out while a process runs, but
	// for what is taken back, which cannot have been begun.
	var r reply
	var err error
	if over {
		r, err = parseTruncated(line, expected)
	} else {
		r, err = parseReply(line, expected)
	}
	if err == nil && r.ready != nil {
		return s.onReady(r.ready)
	}
	c.mu.Lock()
	switch {
	case err != nil:
	case !s.readyBy.IsZero():
		err = errors.New("it came before the line that says \"ready\"")
	case r.returned:
		if s.handed.len() == 0 && len(s.revoked) > 0 && s.revoked[0] == r.id {
			s.revoked = s.revoked[1:]
			idle := len(s.revoked) == 0
			s.revokedAt = time.Now() // each task has its own time limit
			c.mu.Unlock()
			if idle {
				s.onRevoked()
			}
			return true
		}
		err = errors.New("no task with that id has been taken back")
	case s.handed.len() == 0:
		err = errors.New("no task is under way")
	case r.id != s.handed.first().task.ID:
		err = fmt.Errorf("it is of another task than %q, which is next", s.handed.first().task.ID)
	}
	if err != nil {
		s.protocolErr = fmt.Sprintf("the process spoke no task protocol: it sent %s: %v", quoteStart(line), err)
		s.kill()
		c.mu.Unlock()
		return false
	}
	e := s.handed.pop()
	now := time.Now()
	took := now.Sub(s.head)
	s.head = now
	s.replies++
	c.failures = 0
	c.observe(took, len(e.task.Data)+64)
	report := r.report(c.pool.opts.MaxResult)
	if over {
		report = tooLarge(c.pool.opts.MaxResult)
	}
	report.Elapsed = took
	if r.warning != "" {
		if log := c.warnings.take(&c.pool.opts.Log, r.id, r.warning); log != nil {
			defer log() // after mu is unlocked
		}
	}
	if most := c.pool.opts.MaxRuntime; s.ending == 0 && took >= most && took < most+suspensionThreshold {
		s.ending = TimedOut // the clock was about to say so
		s.killLater(now)
		s.proc.Terminate(c.pool.opts.KillDelay)
	}
	switch {
	case s.ending != 0: // it was told to stop before it had a result
		report = TaskResult{Kind: s.ending, Elapsed: took}
	case c.pool.opts.MaxTasks == 1:
		held := report // report itself would be on the heap for every task
		s.finalReport = &held
		s.handed.push(e) // until it has ended
		s.killLater(now)
		c.mu.Unlock()
		return true
	}
	if s.tasksRemaining == 0 && s.handed.len() == 0 {
		s.killLater(now)
	}
	waits := s.pending.len() > 0 && s.handed.len() <= c.prefetchDepth()/2
	hungry := s.demand() > 0
	if c.closing || c.stopping {
		s.retireIdle()
	}
	c.mu.Unlock()
	report.Slot = s.index
	c.finishJob(e, report)
	if waits {
		s.sendPending()
	}
	if hungry {
		c.requestSchedule()
	}
	return true
}

// overlong is the reply of a line that is too long to be read whole.
func parseTruncated(start []byte, expected string) (reply, error) {
	if !bytes.HasPrefix(start, replyStart) {
		return reply{}, errors.New("it is not a reply, and exceeds the maximum length of one")
	}
	return reply{id: expected}, nil
}

// becomeReady takes the process's first line.
func (s *slot[J]) onReady(r *readyLine) bool {
	c := s.c
	c.mu.Lock()
	switch {
	case s.readyBy.IsZero():
		s.protocolErr = "the process spoke no task protocol: it said a second time that it is ready"
	case r.Version != ProtocolVersion:
		s.protocolErr = fmt.Sprintf("the process speaks version %d of the task protocol, and ctworker version %d", r.Version, ProtocolVersion)
	}
	if s.protocolErr != "" {
		s.kill()
		c.mu.Unlock()
		return false
	}
	s.readyBy = time.Time{}
	s.ahead = r.Ahead && c.pool.claims()
	s.conn.rings = r.Ring && s.conn.ring != nil
	if c.closing || c.stopping {
		s.retireIdle()
	}
	c.mu.Unlock()
	s.sendPending()
	c.requestSchedule()
	return true
}

// caughtUp goes on when the process has said of every task that was taken back
// that it has not been run.
func (s *slot[J]) onRevoked() {
	s.c.mu.Lock()
	if s.c.closing || s.c.stopping {
		s.retireIdle()
	}
	s.c.mu.Unlock()
	s.sendPending()
	s.c.requestSchedule()
}
