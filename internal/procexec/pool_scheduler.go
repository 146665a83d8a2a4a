package procexec

import (
	"fmt"
	"sync"
	"time"

	"github.com/sourcegraph/conc/panics"
)

// Jobs are what Run runs, and what it says of them. J is the caller's own: what
// it hands over, it gets back. None of the functions is called twice for a job,
// but for Task and Lost.
type RunConfig[J any] struct {
	// In hands over jobs until it is closed.
	Jobs <-chan J
	// Task is what is to be run.
	Task func(J) Task
	// Lost is closed when the job is no longer ours; nil: never. May be nil.
	Lost func(J) <-chan struct{}
	// Done receives what came of a job. It is called from several goroutines,
	// and may block: then its slot waits.
	OnDone func(J, TaskResult)
	// GiveBack receives a job that will not be run.
	OnRelease func(J)
	// Patience is how long jobs may wait for a process while every one of them runs
	// a task; then those that wait are given back, after Stall has been told. The
	// default, 0, is without end.
	MaxQueueTime time.Duration
	// Stall is told of it. It has to be there with Patience.
	OnStall func()
	// Ahead is told how many jobs beyond one for each slot can be put to use,
	// when that changes. May be nil.
	OnPrefetch func(n int)
	// Failed is told at once of the error that Run will return, so that nothing
	// more is handed over. May be nil.
	OnError func(error)
}

// Run runs jobs in the pool's processes until jobs.In is closed and all are done,
// or ends say otherwise. It returns when every process has ended. The error says
// that processes cannot be started; jobs that have not been run are given back.
func Run[J any](p *Pool, jobs RunConfig[J], signals StopSignals) error {
	c := &scheduler[J]{
		pool: p, jobs: jobs, noMore: signals.NoNewTasks, schedule: make(chan struct{}, 1), timerReset: make(chan struct{}, 1),
		done: make(chan struct{}), stop: make(chan struct{}), idle: make(chan struct{}),
	}
	c.slots = make([]*slot[J], p.opts.Slots)
	for i := range c.slots {
		c.slots[i] = newSlot(c, i)
	}
	var rest sync.WaitGroup
	rest.Go(func() { c.guarded(func() { c.watchStopSignals(signals) }) })
	rest.Go(func() { c.guarded(c.runTimers) })
	var slots sync.WaitGroup
	for _, s := range c.slots {
		slots.Go(func() { c.guarded(s.run) })
	}
	c.feed()
	slots.Wait()
	close(c.done)
	rest.Wait()
	c.releaseBacklog()
	return c.err
}

// guarded calls f, the body of a goroutine. A panic in f, for example in one of the caller's
// functions, fails the run: no further task is started, and the caller's Ends end the running
// tasks.
func (c *scheduler[J]) guarded(f func()) {
	p := panics.Try(f)
	if p == nil {
		return
	}
	err := fmt.Errorf("process pool: %w", p.AsError())
	if c.jobs.OnError != nil {
		c.jobs.OnError(err) // before halt, which needs mu: f may have panicked while it held mu
	}
	for range 100 {
		if c.mu.TryLock() {
			c.mu.Unlock()
			c.halt(err)
			return
		}
		<-time.After(10 * time.Millisecond)
	}
}

// crew is one Run: the seats, what waits for one, and the feeder that assigns.
//
//	In ─▶ feed ─▶ seat.pending ─▶ seat.handed ─▶ process ─▶ Done
//	       ▲  backlog ◀── taken back, or left by a process that ended
//
// mu guards everything in it and in the seats but what says otherwise. A job is
// in exactly one of the backlog, a seat's pending and a seat's handed.
type scheduler[J any] struct {
	pool *Pool
	jobs RunConfig[J]

	noMore <-chan struct{} // Ends.Stop

	schedule   chan struct{} // holds a token when a seat may want something
	timerReset chan struct{} // holds a token when the clock is to look again
	stop       chan struct{} // closed when nothing more is to be started
	idle       chan struct{} // closed when nothing is left to do
	done       chan struct{} // closed when the seats have ended

	mu           sync.Mutex
	slots        []*slot[J]
	backlog      []job[J]
	waitingSince time.Time // since when nothing has been assigned of the backlog; zero: nobody knows
	overdue      bool      // it has been too long
	open         int       // jobs that have been taken in and not been done or given back
	inClosed     bool      // jobs.In is closed
	stopping     bool
	killed       bool
	closing      bool  // processes end as they run out of work
	err          error // why the run failed
	failures     int   // starts that have failed in a row
	nextDeadline time.Time
	warnings     taskWarnings

	tasks    int64         // replies, for the averages
	average  time.Duration // of a task
	size     int           // bytes of a task, on average
	prefetch int           // what jobs.Ahead was last told
}

// entry is a job on its way.
type job[J any] struct {
	value J
	task  Task
	lost  <-chan struct{}
	done  chan struct{} // closed when it is, if lost is not nil
}

// longTaskThreshold is how long a task may run before those that wait behind it are
// taken back, for whichever slot falls free.
const longTaskThreshold = 20 * time.Millisecond

// maxPrefetchTime is how much work is handed over at once, and maxPerProcess and maxPrefetchBytes how many
// tasks and bytes to a process; and where there are many processes, maxPrefetched to all of
// them, but minPerProcess to each.
const (
	maxPrefetchTime  = 2 * time.Millisecond
	maxPerProcess    = 256
	minPerProcess    = 64
	maxPrefetched    = 4096
	maxPrefetchBytes = 64 << 10
)

// depth is how many tasks a process may have that takes them ahead.
func (c *scheduler[J]) prefetchDepth() int {
	if c.tasks < 8 {
		return 1
	}
	n := min(maxPerProcess, max(minPerProcess, maxPrefetched/len(c.slots)))
	if c.average > 0 {
		n = min(n, int(maxPrefetchTime/c.average))
	}
	if c.size > 0 {
		n = min(n, maxPrefetchBytes/c.size)
	}
	return max(n, 1)
}

// observe enters a reply into the averages.
func (c *scheduler[J]) observe(took time.Duration, size int) {
	c.tasks++
	const weight = 16
	if c.tasks == 1 {
		c.average, c.size = took, size
	} else {
		c.average += (took - c.average) / weight
		c.size += (size - c.size) / weight
	}
	if c.tasks%64 != 0 && c.prefetch != 0 || c.jobs.OnPrefetch == nil {
		return
	}
	ahead := len(c.slots)
	if d := c.prefetchDepth(); d > 1 {
		ahead = 2 * d * len(c.slots)
	}
	if ahead != c.prefetch {
		c.prefetch = ahead
		c.jobs.OnPrefetch(ahead)
	}
}

// feed assigns jobs to seats until there are no more.
func (c *scheduler[J]) feed() {
	var ready []*slot[J] // seats that have been assigned something
	flush := func() {
		for _, s := range ready {
			s.sendPending()
		}
		ready = ready[:0]
	}
	in := c.jobs.Jobs
	for {
		c.mu.Lock()
		if c.stopping || c.inClosed && c.open == 0 {
			c.closing = true
			close(c.idle)
			for _, s := range c.slots {
				s.cond.Broadcast()
				s.dismiss()
			}
			c.mu.Unlock()
			flush()
			c.releaseBacklog() // what has come while others were being given back
			return
		}
		if c.overdue {
			c.overdue = false
			c.mu.Unlock()
			flush()
			c.jobs.OnStall()
			c.releaseBacklog()
			continue
		}
		s, room := c.neediestSlot()
		got, closed := 0, false
		if s != nil {
			for got < room && len(c.backlog) > 0 {
				e := c.backlog[0]
				c.backlog = c.backlog[1:]
				s.assign(e)
				got++
				c.waitingSince = time.Time{}
			}
			for got < room && in != nil {
				value, open, ok := poll(in)
				if !ok {
					break
				}
				if !open {
					in, c.inClosed, closed = nil, true, true
					break
				}
				s.assign(c.accept(value))
				got++
			}
			if got > 0 {
				ready = append(ready, s)
			}
		}
		// What has been assigned is sent before a seat that has nothing takes from
		// others, or two idle ones would take it from each other for ever.
		if s != nil && got == 0 && len(ready) == 0 && s.isIdle() && c.stealWork() {
			c.mu.Unlock()
			continue
		}
		c.armBacklogTimer()
		c.mu.Unlock()
		if got > 0 {
			if got == room {
				s.sendPending()
				ready = ready[:len(ready)-1]
			}
			continue
		}
		if closed || len(ready) > 0 {
			flush()
			continue
		}
		if s == nil || in == nil {
			select {
			case <-c.schedule:
			case <-c.stop:
			}
			continue
		}
		select {
		case value, open := <-in:
			c.mu.Lock()
			if !open {
				in, c.inClosed = nil, true
			} else {
				c.backlog = append(c.backlog, c.accept(value))
			}
			c.mu.Unlock()
		case <-c.schedule:
		case <-c.stop:
		}
	}
}

// poll takes a job if there is one. It reports ok if there was, or if in is
// closed.
func poll[J any](in <-chan J) (value J, open, ok bool) {
	select {
	case value, open = <-in:
		return value, open, true
	default:
		return value, true, false
	}
}

// enter makes an entry of a new job, and watches over it if it can be lost.
func (c *scheduler[J]) accept(value J) job[J] {
	c.open++
	e := job[J]{value: value, task: c.jobs.Task(value)}
	if c.jobs.Lost != nil {
		e.lost = c.jobs.Lost(value)
	}
	if e.lost != nil {
		e.done = make(chan struct{})
		go c.guarded(func() {
			select {
			case <-e.lost:
				c.dropLost(e)
			case <-e.done:
			}
		})
	}
	return e
}

// hungriest returns the seat that wants tasks most, and how many: one that has
// nothing at all comes first, and one whose process has yet to end comes last.
func (c *scheduler[J]) neediestSlot() (best *slot[J], room int) {
	bestBusy := false
	for _, s := range c.slots {
		want := s.demand()
		if want <= 0 {
			continue
		}
		if s.handed.len()+s.pending.len() == 0 && s.conn != nil {
			return s, want
		}
		busy := s.isRetiring()
		if best == nil || bestBusy && !busy || bestBusy == busy && want > room {
			best, room, bestBusy = s, want, busy
		}
	}
	return best, room
}

// steal takes for an idle seat what waits behind another's task, and reports
// whether it got anything. What it takes is in the backlog then.
func (c *scheduler[J]) stealWork() bool {
	var from *slot[J]
	most := 0
	for _, s := range c.slots {
		n := s.pending.len()
		if s.ahead {
			n += max(s.handed.len()-1, 0)
		}
		if n > most {
			from, most = s, n
		}
	}
	if from == nil {
		return false
	}
	if from.pending.len() > 0 {
		from.unassign()
		return true
	}
	return from.revoke((most+1)/2) > 0
}

// settle strikes a job out of the books.
func (c *scheduler[J]) finish(e job[J]) {
	if e.done != nil {
		close(e.done)
	}
	c.mu.Lock()
	c.open--
	last := c.open == 0
	c.mu.Unlock()
	if last {
		c.requestSchedule()
	}
}

func (c *scheduler[J]) finishJob(e job[J], r TaskResult) {
	c.jobs.OnDone(e.value, r)
	c.finish(e)
}

// lose drops a job that is no longer ours.
func (c *scheduler[J]) dropLost(e job[J]) {
	c.mu.Lock()
	for _, s := range c.slots {
		if !s.has(e) {
			continue
		}
		if s.revoke(s.handed.len()); s.handed.len() > 0 && s.handed.first().done == e.done {
			s.terminate(LeaseLost)
		}
	}
	// What has not been started is in the backlog, or pending, and is dropped by
	// whoever comes to hand it over.
	c.mu.Unlock()
	c.requestSchedule()
}

// signal has the feeder look again.
func (c *scheduler[J]) requestSchedule() {
	select {
	case c.schedule <- struct{}{}:
	default:
	}
}

// watchEnds brings about what ends say.
func (c *scheduler[J]) watchStopSignals(signals StopSignals) {
	stop, term, kill := signals.NoNewTasks, signals.Terminate, signals.Kill
	for {
		select {
		case <-stop:
			stop = nil
			c.halt(nil)
		case <-term:
			term = nil
			c.halt(nil)
			c.endAll(func(s *slot[J]) { s.terminate(Interrupted) })
		case <-kill:
			kill = nil
			c.halt(nil)
			c.mu.Lock()
			c.killed = true
			c.mu.Unlock()
			c.endAll(func(s *slot[J]) { s.terminate(Interrupted); s.kill() })
		case <-c.done:
			return
		}
	}
}

func (c *scheduler[J]) endAll(end func(*slot[J])) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.slots {
		end(s)
	}
}

// halt has nothing more started, and gives back what has not been.
func (c *scheduler[J]) halt(err error) {
	c.mu.Lock()
	if err != nil && c.err == nil {
		c.err = err
	}
	if !c.stopping {
		c.stopping = true
		close(c.stop)
	}
	for _, s := range c.slots {
		s.revoke(s.handed.len())
		s.unassign()
		s.cond.Broadcast()
		s.dismiss()
	}
	c.mu.Unlock()
	if err != nil && c.jobs.OnError != nil {
		c.jobs.OnError(err)
	}
	c.releaseBacklog()
	c.requestSchedule()
}

func (c *scheduler[J]) releaseIfStopping() {
	if isClosed(c.stop) {
		c.releaseBacklog()
	}
}

// giveBackAll gives back what waits for a seat.
func (c *scheduler[J]) releaseBacklog() {
	c.mu.Lock()
	all := c.backlog
	c.backlog = nil
	c.mu.Unlock()
	for _, e := range all {
		c.jobs.OnRelease(e.value)
		c.finish(e)
	}
}

// startFailed counts a start that failed, and reports whether to go on.
func (c *scheduler[J]) startFailed(reason string) bool {
	c.mu.Lock()
	if c.stopping { // it may have failed because of that
		c.mu.Unlock()
		return false
	}
	c.failures++
	times := c.failures
	c.mu.Unlock()
	c.pool.opts.Log.Warn().Str("command", c.pool.name()).Int("consecutive_failures", times).Str("reason", reason).Msg("a worker process has not started")
	if times < startFailures {
		return true
	}
	c.halt(&StartFailedError{Command: c.pool.name(), Reason: reason, Times: times})
	return false
}
