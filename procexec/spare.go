package procexec

import "time"

// A seat whose process runs its only task has the next one forked ahead, by a host: its
// spare. That waits for its task's line, and ends by itself where there will be none.

// wantSpare has prepare called, if a process runs.
func (s *seat[J]) wantSpare() {
	select {
	case s.wants <- struct{}{}:
	default:
	}
}

// prepare has the spare forked, if there is a task for it. Without one all goes on as
// well: what stands in the way is found when a process is needed.
func (s *seat[J]) prepare() {
	c := s.c
	c.mu.Lock()
	wanted := s.next == nil && s.retired && s.pending.len() > 0 && !c.stopping && !c.closing
	c.mu.Unlock()
	if !wanted {
		return
	}
	if next, err := s.start(); err == nil {
		s.next = next
	}
}

// takeSpare returns the spare, if there is one that lives.
func (s *seat[J]) takeSpare() *started {
	next := s.next
	s.next = nil
	if next != nil && isClosed(next.proc.Done()) {
		next.sess.close()
		return nil
	}
	return next
}

// discardSpare ends the spare.
func (s *seat[J]) discardSpare() {
	next := s.next
	if next == nil {
		return
	}
	s.next = nil
	next.sess.close()
	next.proc.Kill()
	timer := time.NewTimer(lastWait)
	defer timer.Stop()
	select {
	case <-next.proc.Done():
	case <-timer.C: // the host ends it, if it still can
	}
}
