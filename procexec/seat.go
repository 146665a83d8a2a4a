package procexec

import (
	"sync"
	"time"
)

// seat is one slot of a crew: the process that it has, if any, and the jobs that
// are meant for it. One goroutine, run, owns its processes. The crew's mu guards
// the fields.
type seat[J any] struct {
	c    *crew[J]
	slot int
	cond *sync.Cond // something has come for run

	pending fifo[entry[J]] // not sent yet
	handed  fifo[entry[J]] // sent, in the order of the replies; the first one runs
	voided  []string       // sent and taken back: the process still has to say so
	out     []byte         // lines that flush sends; guarded by sending

	next  *started      // the spare, forked ahead; the goroutine that owns the processes alone
	forks int           // how many have been asked for; likewise
	wants chan struct{} // holds a token when there may be a task for a spare

	sess     *session // of a process that tasks can be sent to
	proc     handle
	ahead    bool      // it takes tasks ahead
	left     int       // how many tasks it may still be sent; below 0: any number
	answered int       // how many tasks it has said something of
	retired  bool      // it has been told that there will be no more
	began    time.Time // its start
	head     time.Time // when handed[0] began to run
	long     bool      // its only task runs for long, so nothing is to wait for the next process

	starting time.Time // until when it has to be ready; zero: it is
	end      End       // why it is being ended; 0: it is not
	killAt   time.Time // when it will be killed; zero: not
	giveUp   time.Time // when it is no longer waited for; zero: not
	late     bool      // it was not ready in time
	rubbish  string    // what is wrong with what it said
	claim    claimState
	voidedAt time.Time // since when it has nothing to do but return voided tasks; zero if it has
	held     *Report   // of its only task, until it has ended

	shortSince time.Time // since when no process could be forked; zero: one could

	sending sync.Mutex // around what flush sends, so that lines keep their order
}

// claimState records whether a process that takes tasks ahead has claimed its first task.
type claimState uint8

const (
	claimUnknown claimState = iota // not checked yet
	claimOverdue                   // not claimed when MaxRuntime had passed
	claimed
	neverClaimed // killed because it did not claim a task, or did not return one that was taken back
)

func newSeat[J any](c *crew[J], slot int) *seat[J] {
	return &seat[J]{c: c, slot: slot, cond: sync.NewCond(&c.mu), wants: make(chan struct{}, 1)}
}

// isReady reports whether it has a process that takes tasks.
func (s *seat[J]) isReady() bool {
	return s.sess != nil && s.starting.IsZero() && !s.retired && s.end == 0 && s.rubbish == ""
}

// isBusy reports whether what it is assigned waits for the end of its process.
func (s *seat[J]) isBusy() bool { return s.sess != nil && !s.isReady() && s.starting.IsZero() }

func (s *seat[J]) isIdle() bool {
	return s.isReady() && s.handed.len()+s.pending.len()+len(s.voided) == 0
}

// want is how many more tasks it is to be assigned.
func (s *seat[J]) want() int {
	if !s.isReady() || !s.ahead || len(s.voided) > 0 {
		busy := s.handed.len()
		if (s.retired || s.end != 0) && !s.long {
			busy = 0 // the next process can start as soon as this one has ended
		}
		return 1 - busy - s.pending.len()
	}
	have := s.handed.len() + s.pending.len()
	want := s.c.depth()
	if s.left >= 0 {
		want = min(want, s.left+s.handed.len())
	}
	if have > want/2 {
		return 0 // not yet: a few at a time cost as much as many
	}
	return want - have
}

func (s *seat[J]) has(e entry[J]) bool {
	for _, h := range s.handed.list() {
		if h.done == e.done {
			return true
		}
	}
	return false
}

// assign gives it a job; flush sends it.
func (s *seat[J]) assign(e entry[J]) {
	s.pending.push(e)
	switch {
	case s.sess == nil:
		s.cond.Broadcast()
	case s.retired && s.c.pool.forksAhead():
		s.wantSpare()
	}
}

// flush sends what the process may have now.
func (s *seat[J]) flush() {
	s.sending.Lock()
	defer s.sending.Unlock()
	c := s.c
	var lost []entry[J]
	c.mu.Lock()
	// What is not to be begun any more is given back as soon as watchEnds has a turn.
	if !s.isReady() || len(s.voided) > 0 || isClosed(c.noMore) {
		c.mu.Unlock()
		return
	}
	most := 1
	if s.ahead {
		most = max(c.depth(), 1)
	}
	s.out = s.out[:0]
	n := 0
	for s.pending.len() > 0 && s.handed.len() < most && s.left != 0 {
		e := s.pending.pop()
		if e.lost != nil && isClosed(e.lost) {
			lost = append(lost, e)
			continue
		}
		if s.handed.len() == 0 {
			s.head = time.Now()
		}
		s.handed.push(e)
		s.left--
		s.out = appendTask(s.out, e.task)
		n++
	}
	sess, last := s.sess, s.left == 0
	if n > 0 {
		// A process may read a claim as soon as it has read the line, so the
		// claims come first; under mu, so that they agree with handed.
		if s.ahead {
			sess.grant(n)
		}
		if last {
			s.retired = true
		}
		c.expect(s.due())
	}
	c.mu.Unlock()
	if n > 0 {
		sess.write(s.out)
		if last {
			sess.end()
		}
	}
	if cap(s.out) > 16*handBytes {
		s.out = nil
	}
	for _, e := range lost {
		c.done(e, Report{End: Dropped, Slot: s.slot})
	}
}

// takeBack takes back up to n of the tasks that the process has not begun. They
// are in the backlog then.
func (s *seat[J]) takeBack(n int) int {
	if s.sess == nil || !s.ahead || s.handed.len() == 0 {
		return 0
	}
	got := min(s.sess.takeBack(min(n, s.handed.len())), s.handed.len())
	if got == 0 {
		return 0
	}
	back := s.handed.cut(got)
	// They come before those that were taken back earlier.
	voided := make([]string, 0, got+len(s.voided))
	for _, e := range back {
		voided = append(voided, e.task.ID)
	}
	s.voided = append(voided, s.voided...)
	if s.left >= 0 {
		s.left += got
	}
	s.c.backlog = append(back, s.c.backlog...)
	if s.handed.len() == 0 {
		s.voidedAt = time.Now()
		s.c.expect(s.due())
	}
	return got
}

// retireIdle closes the input of a process that has no task. The process returns the tasks that
// were taken back before it reaches the end of its input, or is killed.
func (s *seat[J]) retireIdle() {
	if s.sess == nil || s.retired || !s.starting.IsZero() || s.handed.len()+s.pending.len() > 0 {
		return
	}
	s.retired = true
	s.killLater(time.Now())
	s.sess.end()
}

// dismiss ends a process that has no work, and will not have any.
func (s *seat[J]) dismiss() {
	if !s.starting.IsZero() && s.pending.len() == 0 {
		s.ended(Ended)
		return
	}
	s.retireIdle()
}

// ended has the process end for a reason that is not its own.
func (s *seat[J]) ended(why End) {
	if s.proc == nil || s.end != 0 {
		return
	}
	if s.held == nil && s.handed.len() > 0 || !s.starting.IsZero() {
		s.end = why
	}
	if why == Dropped || s.c.pool.opts.KillDelay == 0 {
		s.kill()
		return
	}
	if s.end == 0 { // it has nothing to do: let it go
		s.retireIdle()
		return
	}
	s.killLater(time.Now())
	s.proc.Terminate(s.c.pool.opts.KillDelay)
}

// killLater has the process killed, unless it ends within the kill delay.
func (s *seat[J]) killLater(now time.Time) {
	s.killAt = now.Add(s.c.pool.opts.KillDelay)
	s.c.expect(s.killAt)
}

// unassign puts what has not been sent back into the backlog.
func (s *seat[J]) unassign() {
	s.c.backlog = append(s.c.backlog, s.pending.list()...)
	s.pending = fifo[entry[J]]{}
}

// kill kills the process.
func (s *seat[J]) kill() {
	if s.proc == nil {
		return
	}
	s.killAt = time.Time{}
	if s.giveUp.IsZero() {
		s.giveUp = time.Now().Add(lastWait)
		s.c.expect(s.giveUp)
	}
	s.proc.Kill()
}
