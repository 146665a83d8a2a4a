package procexec

import "time"

// A seat whose process runs its only task has the next one forked ahead, by a host: its
// spare. That waits for its task's line, and ends by itself where there will be none.

// wantSpare has prepare called, if a process runs.
func (s *slot[J]) requestPrefork() {
	select {
	case s.preforkRequests <- struct{}{}:
	default:
	}
}

// prepare has the spare forked, if there is a task for it. Without one all goes on as
// well: what stands in the way is found when a process is needed.
func (s *slot[J]) startPrefork() {
	c := s.c
	c.mu.Lock()
	wanted := s.prefork == nil && s.retired && s.pending.len() > 0 && !c.stopping && !c.closing
	c.mu.Unlock()
	if !wanted {
		return
	}
	if next, err := s.start(); err == nil {
		s.prefork = next
	}
}

// takeSpare returns the spare, if there is one that lives.
func (s *slot[J]) takePrefork() *started {
	next := s.prefork
	s.prefork = nil
	if next != nil && isClosed(next.proc.Done()) {
		next.sess.close()
		return nil
	}
	return next
}

// discardSpare ends the spare.
func (s *slot[J]) discardPrefork() {
	next := s.prefork
	if next == nil {
		return
	}
	s.prefork = nil
	next.sess.close()
	next.proc.Kill()
	timer := time.NewTimer(lastWait)
	defer timer.Stop()
	select {
	case <-next.proc.Done():
	case <-timer.C: // the host ends it, if it still can
	}
}
