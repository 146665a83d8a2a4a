package procexec

import "time"

// With a fork server and one task per process, a slot preforks its next process while the
// current one runs. The preforked process waits for its task, and exits if it gets none.

// requestPrefork makes runProcess call startPrefork. It does not block.
func (s *slot[J]) requestPrefork() {
	select {
	case s.preforkRequests <- struct{}{}:
	default:
	}
}

// startPrefork forks the next process if a job is waiting. It ignores errors: if they persist,
// they are reported when the process is needed.
func (s *slot[J]) startPrefork() {
	c := s.sched
	c.mu.Lock()
	wanted := s.preforked == nil && s.inputClosed && s.pending.len() > 0 && !c.stopping && !c.closing
	c.mu.Unlock()
	if !wanted {
		return
	}
	if next, err := s.spawn(); err == nil {
		s.preforked = next
	}
}

// takePrefork returns the preforked process, or nil if there is none or it has exited.
func (s *slot[J]) takePrefork() *started {
	next := s.preforked
	s.preforked = nil
	if next != nil && isClosed(next.proc.Done()) {
		next.conn.Close()
		return nil
	}
	return next
}

// discardPrefork kills the preforked process, if there is one, and waits for its exit.
func (s *slot[J]) discardPrefork() {
	next := s.preforked
	if next == nil {
		return
	}
	s.preforked = nil
	next.conn.Close()
	next.proc.Kill()
	timer := time.NewTimer(sigkillTimeout)
	defer timer.Stop()
	select {
	case <-next.proc.Done():
	case <-timer.C: // the fork server ends it when the connection is closed
	}
}
