package procexec

import (
	"errors"
	"fmt"
	"time"

	"github.com/ctworker/ctworker/internal/taskproto"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// read handles the lines of the process until there are no more. It returns the error of the
// last read, or nil after a protocol violation.
func (s *slot[J]) read(conn *taskproto.EngineConn) error {
	for {
		line, err := conn.Next()
		if errors.Is(err, taskproto.ErrCorruptRing) {
			s.sched.mu.Lock()
			s.protocolErr = err.Error()
			s.kill()
			s.sched.mu.Unlock()
		}
		if err != nil && !errors.Is(err, taskproto.ErrLineTooLong) {
			return err
		}
		if !s.onLine(line, errors.Is(err, taskproto.ErrLineTooLong)) {
			return nil
		}
	}
}

// onLine handles one line. It returns false if no more lines are to be read.
func (s *slot[J]) onLine(line []byte, truncated bool) bool {
	c := s.sched
	c.mu.Lock()
	expected := ""
	if s.sent.len() > 0 {
		expected = s.sent.first().task.ID
	}
	c.mu.Unlock()
	// Only this goroutine removes the first task of sent while the process runs, except for
	// revoke, which removes only tasks that the process has not claimed.
	var r taskproto.Reply
	var err error
	if truncated {
		r, err = taskproto.ParseTruncatedReply(line, expected)
	} else {
		r, err = taskproto.ParseReply(line, expected)
	}
	if err == nil && r.Ready != nil {
		return s.onReady(r.Ready)
	}
	c.mu.Lock()
	switch {
	case err != nil:
	case !s.readyBy.IsZero():
		err = errors.New("the first line must be \"ready\"")
	case r.Returned:
		if s.sent.len() == 0 && len(s.revoked) > 0 && s.revoked[0] == r.ID {
			s.revoked = s.revoked[1:]
			idle := len(s.revoked) == 0
			s.revokedAt = time.Now() // each task has its own time limit
			c.mu.Unlock()
			if idle {
				s.onRevoked()
			}
			return true
		}
		err = errors.New("the task with that id is not the next revoked task")
	case s.sent.len() == 0:
		err = errors.New("no task is running")
	case r.ID != s.sent.first().task.ID:
		err = fmt.Errorf("the next reply must be for the task %q", s.sent.first().task.ID)
	}
	if err != nil {
		s.protocolErr = fmt.Sprintf("the process violated the task protocol: it sent %s: %v", utf8cut.Quote(line), err)
		s.kill()
		c.mu.Unlock()
		return false
	}
	j := s.sent.pop()
	now := time.Now()
	took := now.Sub(s.headStartedAt)
	s.headStartedAt = now
	s.replies++
	c.failures = 0
	c.observe(took, len(j.task.Data)+64)
	result := taskResult(&r, c.pool.opts.MaxResult)
	if truncated {
		result = tooLarge(c.pool.opts.MaxResult)
	}
	result.Elapsed = took
	if r.Warning != "" {
		if log := c.warnings.take(&c.pool.opts.Log, r.ID, r.Warning); log != nil {
			defer log() // after mu is unlocked
		}
	}
	if limit := c.pool.opts.MaxRuntime; s.stopReason == 0 && took >= limit && took < limit+suspensionThreshold {
		s.stopReason = TimedOut // runTimers was about to set it
		s.scheduleKill(now)
		s.proc.Terminate(c.pool.opts.KillDelay)
	}
	switch {
	case s.stopReason != 0: // the process was terminated before it sent the result
		result = TaskResult{Kind: s.stopReason, Elapsed: took}
	case c.pool.opts.MaxTasks == 1:
		finalResult := result // result itself would be allocated on the heap for every task
		s.finalResult = &finalResult
		s.sent.push(j) // until the process has exited
		s.scheduleKill(now)
		c.mu.Unlock()
		return true
	}
	if s.tasksRemaining == 0 && s.sent.len() == 0 {
		s.scheduleKill(now)
	}
	mustSend := s.pending.len() > 0 && s.sent.len() <= c.prefetchDepth()/2
	hasDemand := s.demand() > 0
	if c.closing || c.stopping {
		s.retireIdle()
	}
	c.mu.Unlock()
	result.Slot = s.index
	c.finishJob(j, result)
	if mustSend {
		s.sendPending()
	}
	if hasDemand {
		c.requestSchedule()
	}
	return true
}

// onReady handles the first line of the process.
func (s *slot[J]) onReady(r *taskproto.Ready) bool {
	c := s.sched
	c.mu.Lock()
	switch {
	case s.readyBy.IsZero():
		s.protocolErr = "the process violated the task protocol: it sent a second \"ready\""
	case r.Version != taskproto.Version:
		s.protocolErr = fmt.Sprintf("the process uses version %d of the task protocol, but this ctworker supports only version %d", r.Version, taskproto.Version)
	}
	if s.protocolErr != "" {
		s.kill()
		c.mu.Unlock()
		return false
	}
	s.readyBy = time.Time{}
	s.prefetches = r.Ahead && c.pool.usesPermits()
	s.conn.OnReady(*r)
	if c.closing || c.stopping {
		s.retireIdle()
	}
	c.mu.Unlock()
	s.sendPending()
	c.requestSchedule()
	return true
}

// onRevoked is called when the process has returned all revoked tasks. The slot can be sent
// tasks again.
func (s *slot[J]) onRevoked() {
	s.sched.mu.Lock()
	if s.sched.closing || s.sched.stopping {
		s.retireIdle()
	}
	s.sched.mu.Unlock()
	s.sendPending()
	s.sched.requestSchedule()
}
