package procexec

import "time"

// spare is a process that a host has forked ahead, for a seat whose process runs its
// only task: the next one need not wait for the fork. It waits for its task's line, and
// ends by itself where there will be none.
type spare struct {
	sess *session
	proc *fork
}

// fork asks the host for a process. Two of a seat live at once at most, so they take
// turns in the guard's table.
func (s *seat[J]) fork(socket, claim int) (*fork, error) {
	p := s.c.pool
	place := s.slot
	if s.forks%2 == 1 {
		place += p.opts.Slots
	}
	s.forks++
	return p.opts.Host.fork(p.launcher, s.slot, place, socket, claim)
}

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
	c, p := s.c, s.c.pool
	c.mu.Lock()
	wanted := s.next == nil && s.retired && s.pending.len() > 0 && !c.stopping && !c.closing
	c.mu.Unlock()
	if !wanted {
		return
	}
	sess, theirs, _, err := socketPair(p.lineLimit(), false)
	if err != nil {
		return
	}
	proc, err := s.fork(theirs, -1)
	closeFD(theirs)
	if err != nil {
		sess.close()
		return
	}
	s.next = &spare{sess, proc}
}

// takeSpare returns the spare, if there is one that lives.
func (s *seat[J]) takeSpare() *spare {
	next := s.next
	s.next = nil
	if next == nil {
		return nil
	}
	if isClosed(next.proc.done) {
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
	case <-next.proc.done:
	case <-timer.C: // the host ends it, if it still can
	}
}
