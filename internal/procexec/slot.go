package procexec

import (
	"sync"
	"time"
)

// seat is one slot of a crew: the process that it has, if any, and the jobs that
// are meant for it. One goroutine, run, owns its processes. The crew's mu guards
// the fields.
type slot[J any] struct {
	c     *scheduler[J]
	index int
	cond  *sync.Cond // something has come for run

	pending fifo[job[J]] // not sent yet
	handed  fifo[job[J]] // sent, in the order of the replies; the first one runs
	revoked []string     // sent and taken back: the process still has to say so
	out     []byte       // lines that flush sends; guarded by sending

	prefork         *started      // the spare, forked ahead; the goroutine that owns the processes alone
	forks           int           // how many have been asked for; likewise
	preforkRequests chan struct{} // holds a token when there may be a task for a spare

	conn           *conn // of a process that tasks can be sent to
	proc           process
	ahead          bool      // it takes tasks ahead
	tasksRemaining int       // how many tasks it may still be sent; below 0: any number
	replies        int       // how many tasks it has said something of
	retired        bool      // it has been told that there will be no more
	began          time.Time // its start
	head           time.Time // when handed[0] began to run
	longTask       bool      // its only task runs for long, so nothing is to wait for the next process

	readyBy       time.Time // until when it has to be ready; zero: it is
	ending        ExitKind  // why it is being ended; 0: it is not
	killAt        time.Time // when it will be killed; zero: not
	abandonAt     time.Time // when it is no longer waited for; zero: not
	startTimedOut bool      // it was not ready in time
	protocolErr   string    // what is wrong with what it said
	claim         claimState
	revokedAt     time.Time   // since when it has nothing to do but return voided tasks; zero if it has
	finalReport   *TaskResult // of its only task, until it has ended

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

func newSlot[J any](c *scheduler[J], slotIndex int) *slot[J] {
	return &slot[J]{c: c, index: slotIndex, cond: sync.NewCond(&c.mu), preforkRequests: make(chan struct{}, 1)}
}

// isReady reports whether it has a process that takes tasks.
func (s *slot[J]) isReady() bool {
	return s.conn != nil && s.readyBy.IsZero() && !s.retired && s.ending == 0 && s.protocolErr == ""
}

// isBusy reports whether what it is assigned waits for the end of its process.
func (s *slot[J]) isRetiring() bool { return s.conn != nil && !s.isReady() && s.readyBy.IsZero() }

func (s *slot[J]) isIdle() bool {
	return s.isReady() && s.handed.len()+s.pending.len()+len(s.revoked) == 0
}

// want is how many more tasks it is to be assigned.
func (s *slot[J]) demand() int {
	if !s.isReady() || !s.ahead || len(s.revoked) > 0 {
		busy := s.handed.len()
		if (s.retired || s.ending != 0) && !s.longTask {
			busy = 0 // the next process can start as soon as this one has ended
		}
		return 1 - busy - s.pending.len()
	}
	have := s.handed.len() + s.pending.len()
	want := s.c.prefetchDepth()
	if s.tasksRemaining >= 0 {
		want = min(want, s.tasksRemaining+s.handed.len())
	}
	if have > want/2 {
		return 0 // not yet: a few at a time cost as much as many
	}
	return want - have
}

func (s *slot[J]) has(e job[J]) bool {
	for _, h := range s.handed.list() {
		if h.done == e.done {
			return true
		}
	}
	return false
}

// assign gives it a job; flush sends it.
func (s *slot[J]) assign(e job[J]) {
	s.pending.push(e)
	switch {
	case s.conn == nil:
		s.cond.Broadcast()
	case s.retired && s.c.pool.forksAhead():
		s.requestPrefork()
	}
}

// flush sends what the process may have now.
func (s *slot[J]) sendPending() {
	s.sending.Lock()
	defer s.sending.Unlock()
	c := s.c
	var lost []job[J]
	c.mu.Lock()
	// What is not to be begun any more is given back as soon as watchEnds has a turn.
	if !s.isReady() || len(s.revoked) > 0 || isClosed(c.noMore) {
		c.mu.Unlock()
		return
	}
	most := 1
	if s.ahead {
		most = max(c.prefetchDepth(), 1)
	}
	s.out = s.out[:0]
	n := 0
	for s.pending.len() > 0 && s.handed.len() < most && s.tasksRemaining != 0 {
		e := s.pending.pop()
		if e.lost != nil && isClosed(e.lost) {
			lost = append(lost, e)
			continue
		}
		if s.handed.len() == 0 {
			s.head = time.Now()
		}
		s.handed.push(e)
		s.tasksRemaining--
		s.out = appendTask(s.out, e.task)
		n++
	}
	sess, last := s.conn, s.tasksRemaining == 0
	if n > 0 {
		// A process may read a claim as soon as it has read the line, so the
		// claims come first; under mu, so that they agree with handed.
		if s.ahead {
			sess.addPermits(n)
		}
		if last {
			s.retired = true
		}
		c.armTimer(s.deadline())
	}
	c.mu.Unlock()
	if n > 0 {
		sess.write(s.out)
		if last {
			sess.closeWrite()
		}
	}
	if cap(s.out) > 16*maxPrefetchBytes {
		s.out = nil
	}
	for _, e := range lost {
		c.finishJob(e, TaskResult{Kind: LeaseLost, Slot: s.index})
	}
}

// takeBack takes back up to n of the tasks that the process has not begun. They
// are in the backlog then.
func (s *slot[J]) revoke(n int) int {
	if s.conn == nil || !s.ahead || s.handed.len() == 0 {
		return 0
	}
	got := min(s.conn.revoke(min(n, s.handed.len())), s.handed.len())
	if got == 0 {
		return 0
	}
	back := s.handed.cut(got)
	// They come before those that were taken back earlier.
	voided := make([]string, 0, got+len(s.revoked))
	for _, e := range back {
		voided = append(voided, e.task.ID)
	}
	s.revoked = append(voided, s.revoked...)
	if s.tasksRemaining >= 0 {
		s.tasksRemaining += got
	}
	s.c.backlog = append(back, s.c.backlog...)
	if s.handed.len() == 0 {
		s.revokedAt = time.Now()
		s.c.armTimer(s.deadline())
	}
	return got
}

// retireIdle closes the input of a process that has no task. The process returns the tasks that
// were taken back before it reaches the end of its input, or is killed.
func (s *slot[J]) retireIdle() {
	if s.conn == nil || s.retired || !s.readyBy.IsZero() || s.handed.len()+s.pending.len() > 0 {
		return
	}
	s.retired = true
	s.killLater(time.Now())
	s.conn.closeWrite()
}

// dismiss ends a process that has no work, and will not have any.
func (s *slot[J]) dismiss() {
	if !s.readyBy.IsZero() && s.pending.len() == 0 {
		s.terminate(Interrupted)
		return
	}
	s.retireIdle()
}

// ended has the process end for a reason that is not its own.
func (s *slot[J]) terminate(why ExitKind) {
	if s.proc == nil || s.ending != 0 {
		return
	}
	if s.finalReport == nil && s.handed.len() > 0 || !s.readyBy.IsZero() {
		s.ending = why
	}
	if why == LeaseLost || s.c.pool.opts.KillDelay == 0 {
		s.kill()
		return
	}
	if s.ending == 0 { // it has nothing to do: let it go
		s.retireIdle()
		return
	}
	s.killLater(time.Now())
	s.proc.Terminate(s.c.pool.opts.KillDelay)
}

// killLater has the process killed, unless it ends within the kill delay.
func (s *slot[J]) killLater(now time.Time) {
	s.killAt = now.Add(s.c.pool.opts.KillDelay)
	s.c.armTimer(s.killAt)
}

// unassign puts what has not been sent back into the backlog.
func (s *slot[J]) unassign() {
	s.c.backlog = append(s.c.backlog, s.pending.list()...)
	s.pending = fifo[job[J]]{}
}

// kill kills the process.
func (s *slot[J]) kill() {
	if s.proc == nil {
		return
	}
	s.killAt = time.Time{}
	if s.abandonAt.IsZero() {
		s.abandonAt = time.Now().Add(lastWait)
		s.c.armTimer(s.abandonAt)
	}
	s.proc.Kill()
}
