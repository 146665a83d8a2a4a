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
type Jobs[J any] struct {
	// In hands over jobs until it is closed.
	In <-chan J
	// Task is what is to be run.
	Task func(J) Task
	// Lost is closed when the job is no longer ours; nil: never. May be nil.
	Lost func(J) <-chan struct{}
	// Done receives what came of a job. It is called from several goroutines,
	// and may block: then its slot waits.
	Done func(J, Report)
	// GiveBack receives a job that will not be run.
	GiveBack func(J)
	// Patience is how long jobs may wait for a process while every one of them runs
	// a task; then those that wait are given back, after Stall has been told. The
	// default, 0, is without end.
	Patience time.Duration
	// Stall is told of it. It has to be there with Patience.
	Stall func()
	// Ahead is told how many jobs beyond one for each slot can be put to use,
	// when that changes. May be nil.
	Ahead func(n int)
	// Failed is told at once of the error that Run will return, so that nothing
	// more is handed over. May be nil.
	Failed func(error)
}

// Run runs jobs in the pool's processes until jobs.In is closed and all are done,
// or ends say otherwise. It returns when every process has ended. The error says
// that processes cannot be started; jobs that have not been run are given back.
func Run[J any](p *Pool, jobs Jobs[J], ends Ends) error {
	c := &crew[J]{
		pool: p, jobs: jobs, noMore: ends.Stop, wake: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		over: make(chan struct{}), stop: make(chan struct{}), idle: make(chan struct{}),
	}
	c.seats = make([]*seat[J], p.opts.Slots)
	for i := range c.seats {
		c.seats[i] = newSeat(c, i)
	}
	var rest sync.WaitGroup
	rest.Go(func() { c.guarded(func() { c.watchEnds(ends) }) })
	rest.Go(func() { c.guarded(c.clock) })
	var seats sync.WaitGroup
	for _, s := range c.seats {
		seats.Go(func() { c.guarded(s.run) })
	}
	c.feed()
	seats.Wait()
	close(c.over)
	rest.Wait()
	c.giveBackAll()
	return c.err
}

// guarded calls f, the body of a goroutine. A panic in f, for example in one of the caller's
// functions, fails the run: no further task is started, and the caller's Ends end the running
// tasks.
func (c *crew[J]) guarded(f func()) {
	p := panics.Try(f)
	if p == nil {
		return
	}
	err := fmt.Errorf("process pool: %w", p.AsError())
	if c.jobs.Failed != nil {
		c.jobs.Failed(err) // before halt, which needs mu: f may have panicked while it held mu
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
type crew[J any] struct {
	pool *Pool
	jobs Jobs[J]

	noMore <-chan struct{} // Ends.Stop

	wake chan struct{} // holds a token when a seat may want something
	kick chan struct{} // holds a token when the clock is to look again
	stop chan struct{} // closed when nothing more is to be started
	idle chan struct{} // closed when nothing is left to do
	over chan struct{} // closed when the seats have ended

	mu       sync.Mutex
	seats    []*seat[J]
	backlog  []entry[J]
	waits    time.Time // since when nothing has been assigned of the backlog; zero: nobody knows
	overdue  bool      // it has been too long
	open     int       // jobs that have been taken in and not been done or given back
	inClosed bool      // jobs.In is closed
	stopping bool
	killed   bool
	closing  bool  // processes end as they run out of work
	err      error // why the run failed
	failures int   // starts that have failed in a row
	nextDue  time.Time
	warnings taskWarnings

	tasks   int64         // replies, for the averages
	average time.Duration // of a task
	size    int           // bytes of a task, on average
	ahead   int           // what jobs.Ahead was last told
}

// entry is a job on its way.
type entry[J any] struct {
	job  J
	task Task
	lost <-chan struct{}
	done chan struct{} // closed when it is, if lost is not nil
}

// overstay is how long a task may run before those that wait behind it are
// taken back, for whichever slot falls free.
const overstay = 20 * time.Millisecond

// handAhead is how much work is handed over at once, and handMost and handBytes how many
// tasks and bytes to a process; and where there are many processes, handAll to all of
// them, but handLeast to each.
const (
	handAhead = 2 * time.Millisecond
	handMost  = 256
	handLeast = 64
	handAll   = 4096
	handBytes = 64 << 10
)

// depth is how many tasks a process may have that takes them ahead.
func (c *crew[J]) depth() int {
	if c.tasks < 8 {
		return 1
	}
	n := min(handMost, max(handLeast, handAll/len(c.seats)))
	if c.average > 0 {
		n = min(n, int(handAhead/c.average))
	}
	if c.size > 0 {
		n = min(n, handBytes/c.size)
	}
	return max(n, 1)
}

// observe enters a reply into the averages.
func (c *crew[J]) observe(took time.Duration, size int) {
	c.tasks++
	const weight = 16
	if c.tasks == 1 {
		c.average, c.size = took, size
	} else {
		c.average += (took - c.average) / weight
		c.size += (size - c.size) / weight
	}
	if c.tasks%64 != 0 && c.ahead != 0 || c.jobs.Ahead == nil {
		return
	}
	ahead := len(c.seats)
	if d := c.depth(); d > 1 {
		ahead = 2 * d * len(c.seats)
	}
	if ahead != c.ahead {
		c.ahead = ahead
		c.jobs.Ahead(ahead)
	}
}

// feed assigns jobs to seats until there are no more.
func (c *crew[J]) feed() {
	var ready []*seat[J] // seats that have been assigned something
	flush := func() {
		for _, s := range ready {
			s.flush()
		}
		ready = ready[:0]
	}
	in := c.jobs.In
	for {
		c.mu.Lock()
		if c.stopping || c.inClosed && c.open == 0 {
			c.closing = true
			close(c.idle)
			for _, s := range c.seats {
				s.cond.Broadcast()
				s.dismiss()
			}
			c.mu.Unlock()
			flush()
			c.giveBackAll() // what has come while others were being given back
			return
		}
		if c.overdue {
			c.overdue = false
			c.mu.Unlock()
			flush()
			c.jobs.Stall()
			c.giveBackAll()
			continue
		}
		s, room := c.hungriest()
		got, closed := 0, false
		if s != nil {
			for got < room && len(c.backlog) > 0 {
				e := c.backlog[0]
				c.backlog = c.backlog[1:]
				s.assign(e)
				got++
				c.waits = time.Time{}
			}
			for got < room && in != nil {
				job, open, ok := poll(in)
				if !ok {
					break
				}
				if !open {
					in, c.inClosed, closed = nil, true, true
					break
				}
				s.assign(c.enter(job))
				got++
			}
			if got > 0 {
				ready = append(ready, s)
			}
		}
		// What has been assigned is sent before a seat that has nothing takes from
		// others, or two idle ones would take it from each other for ever.
		if s != nil && got == 0 && len(ready) == 0 && s.isIdle() && c.steal() {
			c.mu.Unlock()
			continue
		}
		c.expectBacklog()
		c.mu.Unlock()
		if got > 0 {
			if got == room {
				s.flush()
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
			case <-c.wake:
			case <-c.stop:
			}
			continue
		}
		select {
		case job, open := <-in:
			c.mu.Lock()
			if !open {
				in, c.inClosed = nil, true
			} else {
				c.backlog = append(c.backlog, c.enter(job))
			}
			c.mu.Unlock()
		case <-c.wake:
		case <-c.stop:
		}
	}
}

// poll takes a job if there is one. It reports ok if there was, or if in is
// closed.
func poll[J any](in <-chan J) (job J, open, ok bool) {
	select {
	case job, open = <-in:
		return job, open, true
	default:
		return job, true, false
	}
}

// enter makes an entry of a new job, and watches over it if it can be lost.
func (c *crew[J]) enter(job J) entry[J] {
	c.open++
	e := entry[J]{job: job, task: c.jobs.Task(job)}
	if c.jobs.Lost != nil {
		e.lost = c.jobs.Lost(job)
	}
	if e.lost != nil {
		e.done = make(chan struct{})
		go c.guarded(func() {
			select {
			case <-e.lost:
				c.lose(e)
			case <-e.done:
			}
		})
	}
	return e
}

// hungriest returns the seat that wants tasks most, and how many: one that has
// nothing at all comes first, and one whose process has yet to end comes last.
func (c *crew[J]) hungriest() (best *seat[J], room int) {
	bestBusy := false
	for _, s := range c.seats {
		want := s.want()
		if want <= 0 {
			continue
		}
		if s.handed.len()+s.pending.len() == 0 && s.sess != nil {
			return s, want
		}
		busy := s.isBusy()
		if best == nil || bestBusy && !busy || bestBusy == busy && want > room {
			best, room, bestBusy = s, want, busy
		}
	}
	return best, room
}

// steal takes for an idle seat what waits behind another's task, and reports
// whether it got anything. What it takes is in the backlog then.
func (c *crew[J]) steal() bool {
	var from *seat[J]
	most := 0
	for _, s := range c.seats {
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
	return from.takeBack((most+1)/2) > 0
}

// settle strikes a job out of the books.
func (c *crew[J]) settle(e entry[J]) {
	if e.done != nil {
		close(e.done)
	}
	c.mu.Lock()
	c.open--
	last := c.open == 0
	c.mu.Unlock()
	if last {
		c.signal()
	}
}

func (c *crew[J]) done(e entry[J], r Report) {
	c.jobs.Done(e.job, r)
	c.settle(e)
}

// lose drops a job that is no longer ours.
func (c *crew[J]) lose(e entry[J]) {
	c.mu.Lock()
	for _, s := range c.seats {
		if !s.has(e) {
			continue
		}
		if s.takeBack(s.handed.len()); s.handed.len() > 0 && s.handed.first().done == e.done {
			s.ended(Dropped)
		}
	}
	// What has not been started is in the backlog, or pending, and is dropped by
	// whoever comes to hand it over.
	c.mu.Unlock()
	c.signal()
}

// signal has the feeder look again.
func (c *crew[J]) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// watchEnds brings about what ends say.
func (c *crew[J]) watchEnds(ends Ends) {
	stop, term, kill := ends.Stop, ends.Term, ends.Kill
	for {
		select {
		case <-stop:
			stop = nil
			c.halt(nil)
		case <-term:
			term = nil
			c.halt(nil)
			c.endAll(func(s *seat[J]) { s.ended(Ended) })
		case <-kill:
			kill = nil
			c.halt(nil)
			c.mu.Lock()
			c.killed = true
			c.mu.Unlock()
			c.endAll(func(s *seat[J]) { s.ended(Ended); s.kill() })
		case <-c.over:
			return
		}
	}
}

func (c *crew[J]) endAll(end func(*seat[J])) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.seats {
		end(s)
	}
}

// halt has nothing more started, and gives back what has not been.
func (c *crew[J]) halt(err error) {
	c.mu.Lock()
	if err != nil && c.err == nil {
		c.err = err
	}
	if !c.stopping {
		c.stopping = true
		close(c.stop)
	}
	for _, s := range c.seats {
		s.takeBack(s.handed.len())
		s.unassign()
		s.cond.Broadcast()
		s.dismiss()
	}
	c.mu.Unlock()
	if err != nil && c.jobs.Failed != nil {
		c.jobs.Failed(err)
	}
	c.giveBackAll()
	c.signal()
}

func (c *crew[J]) giveBackIfStopping() {
	if isClosed(c.stop) {
		c.giveBackAll()
	}
}

// giveBackAll gives back what waits for a seat.
func (c *crew[J]) giveBackAll() {
	c.mu.Lock()
	all := c.backlog
	c.backlog = nil
	c.mu.Unlock()
	for _, e := range all {
		c.jobs.GiveBack(e.job)
		c.settle(e)
	}
}

// startFailed counts a start that failed, and reports whether to go on.
func (c *crew[J]) startFailed(reason string) bool {
	c.mu.Lock()
	if c.stopping { // it may have failed because of that
		c.mu.Unlock()
		return false
	}
	c.failures++
	times := c.failures
	c.mu.Unlock()
	c.pool.opts.Log.Warn().Str("command", c.pool.name()).Int("in_a_row", times).Str("reason", reason).Msg("a warm process has not started")
	if times < startFailures {
		return true
	}
	c.halt(&StartFailedError{Command: c.pool.name(), Reason: reason, Times: times})
	return false
}
