package procexec

import (
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/taskproto"
)

// slot is one unit of concurrency: its process, if it has one, and the jobs assigned to it. The
// goroutine of run owns the process. The scheduler's mu guards the fields, except as noted.
type slot[J any] struct {
	sched *scheduler[J]
	index int
	cond  *sync.Cond // signals run that it has work, or must return

	pending fifo[job[J]] // assigned and not sent yet
	sent    fifo[job[J]] // sent, in the order of the replies; the process runs the first one
	revoked []string     // ids of tasks that were revoked and that the process has yet to return
	outBuf  []byte       // lines that sendPending writes; guarded by writeMu

	preforked       *started      // the next process, forked in advance; used only by the goroutine that owns the process
	forkCount       int           // number of forks requested; used only by that goroutine
	preforkRequests chan struct{} // holds a token if there may be a task for a preforked process

	conn           *taskproto.EngineConn // connection to the process; nil if there is no process
	proc           process
	prefetches     bool      // the process accepts tasks while it runs another
	tasksRemaining int       // how many more tasks may be sent to the process; negative if unlimited
	replies        int       // number of replies of the process
	inputClosed    bool      // no more tasks will be sent: our side of the socket is closed for writing
	startedAt      time.Time // when the process was started
	headStartedAt  time.Time // when the first task of sent began to run
	longTask       bool      // the last task runs for long, so no job must wait for the next process

	readyBy       time.Time // when the process must be ready; zero once it is
	stopReason    ExitKind  // why the process is terminated; 0 if it is not
	killAt        time.Time // when the process will be killed; zero if it will not be
	abandonAt     time.Time // when to stop waiting for the killed process; zero if it was not killed
	startTimedOut bool      // the process was killed because it was not ready by readyBy
	protocolErr   string    // how the process violated the task protocol; "" if it did not
	claim         claimState
	revokedAt     time.Time   // since when the process only has to return revoked tasks; zero if it runs a task
	finalResult   *TaskResult // result of the only task of the process, until the process has exited

	shortageSince time.Time // since when forks have failed because of a shortage; zero if the last one succeeded

	writeMu sync.Mutex // held while sendPending writes, so that lines keep their order
}

// claimState records whether a process that prefetches tasks has claimed its first task.
type claimState uint8

const (
	claimUnknown claimState = iota // not checked yet
	claimOverdue                   // not claimed when MaxRuntime had passed
	claimed
	neverClaimed // killed because it did not claim a task, or did not return a revoked one
)

func newSlot[J any](c *scheduler[J], index int) *slot[J] {
	return &slot[J]{sched: c, index: index, cond: sync.NewCond(&c.mu), preforkRequests: make(chan struct{}, 1)}
}

// isReady reports whether the slot has a process that can be sent tasks.
func (s *slot[J]) isReady() bool {
	return s.conn != nil && s.readyBy.IsZero() && !s.inputClosed && s.stopReason == 0 && s.protocolErr == ""
}

// isRetiring reports whether the slot's process gets no more tasks and has not exited, so that
// pending jobs wait for the next process.
func (s *slot[J]) isRetiring() bool { return s.conn != nil && !s.isReady() && s.readyBy.IsZero() }

// isIdle reports whether the slot's process is ready and has nothing to do.
func (s *slot[J]) isIdle() bool {
	return s.isReady() && s.sent.len()+s.pending.len()+len(s.revoked) == 0
}

// demand returns how many more jobs should be assigned to the slot.
func (s *slot[J]) demand() int {
	if !s.isReady() || !s.prefetches || len(s.revoked) > 0 {
		busy := s.sent.len()
		if (s.inputClosed || s.stopReason != 0) && !s.longTask {
			busy = 0 // the next process can start as soon as this one has exited
		}
		return 1 - busy - s.pending.len()
	}
	have := s.sent.len() + s.pending.len()
	want := s.sched.prefetchDepth()
	if s.tasksRemaining >= 0 {
		want = min(want, s.tasksRemaining+s.sent.len())
	}
	if have > want/2 {
		return 0 // sending a few tasks costs as much as sending many
	}
	return want - have
}

// has reports whether a job was sent to the slot's process. The job must have a lease that can
// be lost.
func (s *slot[J]) has(j job[J]) bool {
	for _, h := range s.sent.list() {
		if h.done == j.done {
			return true
		}
	}
	return false
}

// assign adds a job to pending. sendPending sends it.
func (s *slot[J]) assign(j job[J]) {
	s.pending.push(j)
	switch {
	case s.conn == nil:
		s.cond.Broadcast()
	case s.inputClosed && s.sched.pool.preforks():
		s.requestPrefork()
	}
}

// sendPending sends pending jobs to the process, as many as it may hold. It does not block on
// the process.
func (s *slot[J]) sendPending() {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	c := s.sched
	var lost []job[J]
	c.mu.Lock()
	// After NoNewTasks, watchStopSignals releases the pending jobs as soon as it runs.
	if !s.isReady() || len(s.revoked) > 0 || isClosed(c.noMore) {
		c.mu.Unlock()
		return
	}
	maxSent := 1
	if s.prefetches {
		maxSent = max(c.prefetchDepth(), 1)
	}
	s.outBuf = s.outBuf[:0]
	n := 0
	for s.pending.len() > 0 && s.sent.len() < maxSent && s.tasksRemaining != 0 {
		j := s.pending.pop()
		if j.lost != nil && isClosed(j.lost) {
			lost = append(lost, j)
			continue
		}
		if s.sent.len() == 0 {
			s.headStartedAt = time.Now()
		}
		s.sent.push(j)
		s.tasksRemaining--
		s.outBuf = taskproto.AppendTask(s.outBuf, j.task.ID, j.task.Attempt, j.task.Data)
		n++
	}
	conn, last := s.conn, s.tasksRemaining == 0
	if n > 0 {
		// The permits come before the lines, because a process may claim a task as soon as it
		// has read the line. They are added under mu, so that their number matches sent.
		if s.prefetches {
			conn.AddPermits(n)
		}
		if last {
			s.inputClosed = true
		}
		c.armTimer(s.deadline())
	}
	c.mu.Unlock()
	if n > 0 {
		conn.Write(s.outBuf)
		if last {
			conn.CloseWrite()
		}
	}
	if cap(s.outBuf) > 16*maxPrefetchBytes {
		s.outBuf = nil
	}
	for _, j := range lost {
		c.finishJob(j, TaskResult{Kind: LeaseLost, Slot: s.index})
	}
}

// revoke takes back up to n tasks that the process has not claimed, the last ones first, and
// moves them to the backlog. It returns their number.
func (s *slot[J]) revoke(n int) int {
	if s.conn == nil || !s.prefetches || s.sent.len() == 0 {
		return 0
	}
	got := min(s.conn.Revoke(min(n, s.sent.len())), s.sent.len())
	if got == 0 {
		return 0
	}
	revoked := s.sent.takeLast(got)
	// They come before the tasks that were revoked earlier.
	ids := make([]string, 0, got+len(s.revoked))
	for _, j := range revoked {
		ids = append(ids, j.task.ID)
	}
	s.revoked = append(ids, s.revoked...)
	if s.tasksRemaining >= 0 {
		s.tasksRemaining += got
	}
	s.sched.backlog = append(revoked, s.sched.backlog...)
	if s.sent.len() == 0 {
		s.revokedAt = time.Now()
		s.sched.armTimer(s.deadline())
	}
	return got
}

// retireIdle closes the input of a process that has no task. The process returns the revoked
// tasks before it reaches the end of its input, or is killed.
func (s *slot[J]) retireIdle() {
	if s.conn == nil || s.inputClosed || !s.readyBy.IsZero() || s.sent.len()+s.pending.len() > 0 {
		return
	}
	s.inputClosed = true
	s.scheduleKill(time.Now())
	s.conn.CloseWrite()
}

// stopIdle terminates a process that is starting without a job, and retires one that is idle.
// It is called when no more jobs will be assigned.
func (s *slot[J]) stopIdle() {
	if !s.readyBy.IsZero() && s.pending.len() == 0 {
		s.terminate(Interrupted)
		return
	}
	s.retireIdle()
}

// terminate sends SIGTERM to the process, and SIGKILL after the kill delay, or SIGKILL
// immediately if the lease is lost. A process that has no task is retired instead. reason
// becomes the outcome of the running task.
func (s *slot[J]) terminate(reason ExitKind) {
	if s.proc == nil || s.stopReason != 0 {
		return
	}
	if s.finalResult == nil && s.sent.len() > 0 || !s.readyBy.IsZero() {
		s.stopReason = reason
	}
	if reason == LeaseLost || s.sched.pool.opts.KillDelay == 0 {
		s.kill()
		return
	}
	if s.stopReason == 0 { // the process has no task
		s.retireIdle()
		return
	}
	s.scheduleKill(time.Now())
	s.proc.Terminate(s.sched.pool.opts.KillDelay)
}

// scheduleKill makes runTimers kill the process, unless it exits within the kill delay.
func (s *slot[J]) scheduleKill(now time.Time) {
	s.killAt = now.Add(s.sched.pool.opts.KillDelay)
	s.sched.armTimer(s.killAt)
}

// unassign moves the pending jobs to the backlog.
func (s *slot[J]) unassign() {
	s.sched.backlog = append(s.sched.backlog, s.pending.list()...)
	s.pending = fifo[job[J]]{}
}

// kill sends SIGKILL to the process.
func (s *slot[J]) kill() {
	if s.proc == nil {
		return
	}
	s.killAt = time.Time{}
	if s.abandonAt.IsZero() {
		s.abandonAt = time.Now().Add(sigkillTimeout)
		s.sched.armTimer(s.abandonAt)
	}
	s.proc.Kill()
}
