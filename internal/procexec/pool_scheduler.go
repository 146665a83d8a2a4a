package procexec

import (
	"fmt"
	"sync"
	"time"

	"github.com/sourcegraph/conc/panics"
)

// RunConfig configures Run. J is the caller's job type; it is passed back unchanged to the
// callbacks. For each job, exactly one of OnDone and OnRelease is called, once.
type RunConfig[J any] struct {
	// Input is the channel of jobs. Run returns after it is closed and all jobs are done.
	Input <-chan J
	// Task returns the task of a job.
	Task func(J) Task
	// Lost returns a channel that is closed when the lease of the job is lost, or nil if that
	// cannot happen. Lost itself may be nil.
	Lost func(J) <-chan struct{}
	// OnDone receives the result of a job. It is called concurrently from several goroutines.
	// While it blocks, the slot of the job waits.
	OnDone func(J, TaskResult)
	// OnRelease receives a job that was not started and will not be.
	OnRelease func(J)
	// MaxQueueTime is the maximum time that jobs wait for a slot while all slots are busy.
	// After it, OnStall is called and the waiting jobs are released. 0 disables it.
	MaxQueueTime time.Duration
	// OnStall is called before waiting jobs are released because of MaxQueueTime. It is
	// required if MaxQueueTime is set.
	OnStall func()
	// OnPrefetch is called with the useful number of jobs beyond one per slot, whenever it
	// changes. It is called with an internal lock held, so it must not block. May be nil.
	OnPrefetch func(n int)
	// OnError is called immediately with the error that Run will return, so that the caller can
	// stop sending jobs. May be nil.
	OnError func(error)
}

// Run runs jobs in the pool's processes until config.Input is closed and all jobs are done, or
// until signals end the run. It returns when every process has exited. It returns a
// *StartFailedError or another error if processes cannot be started; jobs that were not started
// are released.
func Run[J any](p *Pool, config RunConfig[J], signals StopSignals) error {
	c := &scheduler[J]{
		pool: p, config: config, noMore: signals.NoNewTasks, schedule: make(chan struct{}, 1), timerReset: make(chan struct{}, 1),
		done: make(chan struct{}), stop: make(chan struct{}), idle: make(chan struct{}),
	}
	c.slots = make([]*slot[J], p.opts.Slots)
	for i := range c.slots {
		c.slots[i] = newSlot(c, i)
	}
	var helpers sync.WaitGroup
	helpers.Go(func() { c.guarded(func() { c.watchStopSignals(signals) }) })
	helpers.Go(func() { c.guarded(c.runTimers) })
	var slots sync.WaitGroup
	for _, s := range c.slots {
		slots.Go(func() { c.guarded(s.run) })
	}
	c.feed()
	slots.Wait()
	close(c.done)
	helpers.Wait()
	c.releaseBacklog()
	return c.err
}

// guarded calls f, the body of a goroutine. A panic in f, for example in a callback, fails the
// run: no further task is started, and the caller's StopSignals end the running tasks.
func (c *scheduler[J]) guarded(f func()) {
	p := panics.Try(f)
	if p == nil {
		return
	}
	err := fmt.Errorf("process pool: %w", p.AsError())
	if c.config.OnError != nil {
		c.config.OnError(err) // before halt, which locks mu: f may have panicked while it held mu
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

// scheduler is the state of one Run. mu guards all fields of the scheduler and of the slots,
// except those with a comment to the contrary. A job is in exactly one of backlog, slot.pending
// and slot.sent. See the package documentation for a diagram.
type scheduler[J any] struct {
	pool   *Pool
	config RunConfig[J]

	noMore <-chan struct{} // StopSignals.NoNewTasks

	schedule   chan struct{} // holds a token if a slot may need jobs
	timerReset chan struct{} // holds a token if runTimers must recompute its timer
	stop       chan struct{} // closed when no further task may start
	idle       chan struct{} // closed when feed has returned
	done       chan struct{} // closed when the goroutines of all slots have returned

	mu             sync.Mutex
	slots          []*slot[J]
	backlog        []job[J]
	waitingSince   time.Time // when the backlog last became stuck; zero if it is not known to be
	backlogOverdue bool      // the backlog has been stuck for MaxQueueTime
	openJobs       int       // jobs accepted, and neither done nor released
	inClosed       bool      // config.Input is closed
	stopping       bool
	killed         bool
	closing        bool  // idle processes are retired
	err            error // what Run returns
	failures       int   // consecutive failed starts
	nextDeadline   time.Time
	warnings       taskWarnings

	replyCount  int64         // number of replies
	avgDuration time.Duration // running average of the duration of a task
	avgSize     int           // running average of the size of a task in bytes
	prefetch    int           // last argument of OnPrefetch
}

// job is a job on its way through the scheduler.
type job[J any] struct {
	value J
	task  Task
	lost  <-chan struct{}
	done  chan struct{} // closed when the job is finished; nil if lost is nil
}

// longTaskThreshold is the run time after which the tasks that wait behind a task are revoked,
// and assigned to the next free slot.
const longTaskThreshold = 20 * time.Millisecond

// Limits of prefetching. maxPrefetchTime is the amount of work, maxPerProcess the number of
// tasks and maxPrefetchBytes the number of bytes that a process holds. maxPrefetched is the
// number of tasks that all processes hold together, except that each may hold minPerProcess.
const (
	maxPrefetchTime  = 2 * time.Millisecond
	maxPerProcess    = 256
	minPerProcess    = 64
	maxPrefetched    = 4096
	maxPrefetchBytes = 64 << 10
)

// prefetchDepth returns the number of tasks that a process that prefetches may hold.
func (c *scheduler[J]) prefetchDepth() int {
	if c.replyCount < 8 {
		return 1
	}
	n := min(maxPerProcess, max(minPerProcess, maxPrefetched/len(c.slots)))
	if c.avgDuration > 0 {
		n = min(n, int(maxPrefetchTime/c.avgDuration))
	}
	if c.avgSize > 0 {
		n = min(n, maxPrefetchBytes/c.avgSize)
	}
	return max(n, 1)
}

// observe updates the running averages with a reply, and calls OnPrefetch if its argument
// changes.
func (c *scheduler[J]) observe(took time.Duration, size int) {
	c.replyCount++
	const weight = 16
	if c.replyCount == 1 {
		c.avgDuration, c.avgSize = took, size
	} else {
		c.avgDuration += (took - c.avgDuration) / weight
		c.avgSize += (size - c.avgSize) / weight
	}
	if c.replyCount%64 != 0 && c.prefetch != 0 || c.config.OnPrefetch == nil {
		return
	}
	prefetch := len(c.slots)
	if d := c.prefetchDepth(); d > 1 {
		prefetch = 2 * d * len(c.slots)
	}
	if prefetch != c.prefetch {
		c.prefetch = prefetch
		c.config.OnPrefetch(prefetch)
	}
}

// feed assigns jobs to slots until there are no more.
func (c *scheduler[J]) feed() {
	var ready []*slot[J] // slots with new pending jobs
	flush := func() {
		for _, s := range ready {
			s.sendPending()
		}
		ready = ready[:0]
	}
	in := c.config.Input
	for {
		c.mu.Lock()
		if c.stopping || c.inClosed && c.openJobs == 0 {
			c.closing = true
			close(c.idle)
			for _, s := range c.slots {
				s.cond.Broadcast()
				s.stopIdle()
			}
			c.mu.Unlock()
			flush()
			c.releaseBacklog() // jobs that were added while others were being released
			return
		}
		if c.backlogOverdue {
			c.backlogOverdue = false
			c.mu.Unlock()
			flush()
			c.config.OnStall()
			c.releaseBacklog()
			continue
		}
		s, room := c.neediestSlot()
		assigned, closed := 0, false
		if s != nil {
			for assigned < room && len(c.backlog) > 0 {
				j := c.backlog[0]
				c.backlog = c.backlog[1:]
				s.assign(j)
				assigned++
				c.waitingSince = time.Time{}
			}
			for assigned < room && in != nil {
				value, open, ok := tryReceive(in)
				if !ok {
					break
				}
				if !open {
					in, c.inClosed, closed = nil, true, true
					break
				}
				s.assign(c.accept(value))
				assigned++
			}
			if assigned > 0 {
				ready = append(ready, s)
			}
		}
		// Pending jobs are sent before an idle slot steals, or two idle slots would steal the
		// same job from each other for ever.
		if s != nil && assigned == 0 && len(ready) == 0 && s.isIdle() && c.stealWork() {
			c.mu.Unlock()
			continue
		}
		c.armBacklogTimer()
		c.mu.Unlock()
		if assigned > 0 {
			if assigned == room {
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

// tryReceive receives a job without blocking. ok is true if it received one, or if in is closed;
// open is false if in is closed.
func tryReceive[J any](in <-chan J) (value J, open, ok bool) {
	select {
	case value, open = <-in:
		return value, open, true
	default:
		return value, true, false
	}
}

// accept wraps a new job, and watches for the loss of its lease.
func (c *scheduler[J]) accept(value J) job[J] {
	c.openJobs++
	j := job[J]{value: value, task: c.config.Task(value)}
	if c.config.Lost != nil {
		j.lost = c.config.Lost(value)
	}
	if j.lost != nil {
		j.done = make(chan struct{})
		go c.guarded(func() {
			select {
			case <-j.lost:
				c.dropLost(j)
			case <-j.done:
			}
		})
	}
	return j
}

// neediestSlot returns the slot with the highest demand, and that demand. It prefers a slot
// whose process has no task, and returns a slot whose process is about to exit only if there is
// no other.
func (c *scheduler[J]) neediestSlot() (best *slot[J], room int) {
	bestRetiring := false
	for _, s := range c.slots {
		want := s.demand()
		if want <= 0 {
			continue
		}
		if s.sent.len()+s.pending.len() == 0 && s.conn != nil {
			return s, want
		}
		retiring := s.isRetiring()
		if best == nil || bestRetiring && !retiring || bestRetiring == retiring && want > room {
			best, room, bestRetiring = s, want, retiring
		}
	}
	return best, room
}

// stealWork moves jobs that wait behind other tasks of a slot to the backlog, for an idle slot.
// It reports whether it moved any.
func (c *scheduler[J]) stealWork() bool {
	var from *slot[J]
	maxJobs := 0
	for _, s := range c.slots {
		n := s.pending.len()
		if s.prefetches {
			n += max(s.sent.len()-1, 0)
		}
		if n > maxJobs {
			from, maxJobs = s, n
		}
	}
	if from == nil {
		return false
	}
	if from.pending.len() > 0 {
		from.unassign()
		return true
	}
	return from.revoke((maxJobs+1)/2) > 0
}

// finish removes a job from the in-flight count.
func (c *scheduler[J]) finish(j job[J]) {
	if j.done != nil {
		close(j.done)
	}
	c.mu.Lock()
	c.openJobs--
	last := c.openJobs == 0
	c.mu.Unlock()
	if last {
		c.requestSchedule()
	}
}

// finishJob reports the result of a job and finishes it.
func (c *scheduler[J]) finishJob(j job[J], r TaskResult) {
	c.config.OnDone(j.value, r)
	c.finish(j)
}

// dropLost kills the process of a job whose lease is lost. If the job has not started, it is in
// the backlog or pending then, and sendPending reports it as lost.
func (c *scheduler[J]) dropLost(j job[J]) {
	c.mu.Lock()
	for _, s := range c.slots {
		if !s.has(j) {
			continue
		}
		if s.revoke(s.sent.len()); s.sent.len() > 0 && s.sent.first().done == j.done {
			s.terminate(LeaseLost)
		}
	}
	c.mu.Unlock()
	c.requestSchedule()
}

// requestSchedule makes feed check the slots again. It does not block.
func (c *scheduler[J]) requestSchedule() {
	select {
	case c.schedule <- struct{}{}:
	default:
	}
}

// watchStopSignals applies the stop signals until the run ends.
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
			c.forEachSlot(func(s *slot[J]) { s.terminate(Interrupted) })
		case <-kill:
			kill = nil
			c.halt(nil)
			c.mu.Lock()
			c.killed = true
			c.mu.Unlock()
			c.forEachSlot(func(s *slot[J]) { s.terminate(Interrupted); s.kill() })
		case <-c.done:
			return
		}
	}
}

func (c *scheduler[J]) forEachSlot(f func(*slot[J])) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.slots {
		f(s)
	}
}

// halt prevents further tasks from starting, and releases the jobs that have not started. If
// err is not nil, Run returns it.
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
		s.revoke(s.sent.len())
		s.unassign()
		s.cond.Broadcast()
		s.stopIdle()
	}
	c.mu.Unlock()
	if err != nil && c.config.OnError != nil {
		c.config.OnError(err)
	}
	c.releaseBacklog()
	c.requestSchedule()
}

func (c *scheduler[J]) releaseIfStopping() {
	if isClosed(c.stop) {
		c.releaseBacklog()
	}
}

// releaseBacklog releases the jobs in the backlog.
func (c *scheduler[J]) releaseBacklog() {
	c.mu.Lock()
	all := c.backlog
	c.backlog = nil
	c.mu.Unlock()
	for _, j := range all {
		c.config.OnRelease(j.value)
		c.finish(j)
	}
}

// startFailed counts a failed start. It reports whether the slot may start another process.
func (c *scheduler[J]) startFailed(reason string) bool {
	c.mu.Lock()
	if c.stopping { // the process may have been terminated because of that
		c.mu.Unlock()
		return false
	}
	c.failures++
	times := c.failures
	c.mu.Unlock()
	c.pool.opts.Log.Warn().Str("command", c.pool.name()).Int("consecutive_failures", times).Str("reason", reason).Msg("worker process did not become ready")
	if times < maxStartFailures {
		return true
	}
	c.halt(&StartFailedError{Command: c.pool.name(), Reason: reason, Times: times})
	return false
}
