package procexec

import (
	"fmt"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/internal/taskproto"
)

// RunConfig configures Run. J is the caller's job type, and R the type of its results. Each job is
// either released, or its result is sent to Output. Run calls the callbacks one at a time, and they
// must not block.
type RunConfig[J, R any] struct {
	// Input is the channel of jobs. Run returns after it is closed and all jobs are done.
	Input <-chan J
	// Output receives the results. While it is full, no further jobs are started.
	Output chan<- R
	// Task returns the task of a job.
	Task func(J) Task
	// Result returns the result of a job that has ended.
	Result func(J, TaskResult) R
	// OnSent is called after the result of a job was sent, and OnBlocked when it cannot be sent yet.
	// Both may be nil.
	OnSent, OnBlocked func(J)
	// Lost returns a channel that is closed when the lease of the job is lost, or nil if that
	// cannot happen. Lost itself may be nil.
	Lost func(J) <-chan struct{}
	// OnRelease receives a job that was not started and will not be, or whose result could not be
	// sent before StopSignals.NoResults.
	OnRelease func(J)
	// MaxQueueTime is the maximum time that jobs wait for a slot while all slots are busy. After it,
	// OnStall is called and the waiting jobs are released. 0 disables it.
	MaxQueueTime time.Duration
	// OnStall is called before waiting jobs are released because of MaxQueueTime. It is required if
	// MaxQueueTime is set.
	OnStall func()
	// OnPrefetch is called with the useful number of jobs beyond one per slot, whenever it changes.
	// May be nil.
	OnPrefetch func(n int)
	// OnError is called at once with the error that Run will return, so that the caller can stop
	// sending jobs. May be nil.
	OnError func(error)
}

// Run runs jobs in the pool's processes until config.Input is closed and all jobs are done, or until
// signals end the run. It returns when every process has exited. It returns a *StartFailedError or
// another error if processes cannot be started; jobs that were not started are released.
func Run[J, R any](p *Pool, config RunConfig[J, R], signals StopSignals) error {
	l := &loop[J, R]{
		pool: p, config: config, signals: signals, input: config.Input, deadlines: newDeadlines(),
		events: make(chan event[J], 4*p.opts.Slots), cancelLaunch: make(chan struct{}), done: make(chan struct{}),
	}
	l.backlogDeadline = deadline{index: -1, expire: l.onBacklogOverdue}
	for i := range p.opts.Slots {
		s := &slot[J]{index: i}
		s.retryLaunch = deadline{index: -1, expire: func(time.Time) { l.want(s) }}
		l.slots = append(l.slots, s)
		l.want(s)
	}
	for {
		panicked := panics.Try(l.run)
		if panicked == nil {
			break
		}
		// For example, a callback has failed. End the run in order.
		l.halt(fmt.Errorf("process pool: its event loop panicked: %w", panicked.AsError()))
		l.killAll()
	}
	close(l.done)
	l.deadlines.timer.Stop()
	return l.err
}

// loop is the state of one Run. Only the goroutine of Run uses it: other goroutines send events. A
// job is in exactly one place: the backlog, the sent tasks of one process, or the results.
type loop[J, R any] struct {
	pool    *Pool
	config  RunConfig[J, R]
	signals StopSignals // a signal that was handled is nil

	slots    []*slot[J]
	hungry   []*slot[J]           // slots that may need a job or a process
	input    <-chan J             // nil once it is closed, or no further job is accepted
	backlog  []job[J]             // jobs that wait for a slot
	results  fifo[finished[J, R]] // results that Output has not accepted
	openJobs int                  // jobs accepted, and neither released nor sent to Output
	live     int                  // processes that are not gone

	events          chan event[J]
	deadlines       *deadlines
	backlogDeadline deadline      // when the backlog has waited for MaxQueueTime
	cancelLaunch    chan struct{} // closed when no further process may be launched
	done            chan struct{} // closed when Run returns

	closing   bool  // all jobs are done: idle processes are retired
	stopping  bool  // no further task may start
	killed    bool  // StopSignals.Kill was handled
	noResults bool  // StopSignals.NoResults was handled
	err       error // what Run returns
	failures  int   // consecutive failed starts
	warnings  taskWarnings
	out       []byte // lines that assign writes
	prefetch  prefetcher
}

// event is what another goroutine reports to the loop. Exactly one field is set, except for process.
type event[J any] struct {
	process  *poolProcess[J]
	launched *launch     // the process was started, or could not be
	batch    *replyBatch // the process has written
	exited   bool        // the process has exited
	lost     *job[J]     // the lease of the job was lost
	panicked error       // a goroutine has panicked
}

// job is a job on its way through the loop.
type job[J any] struct {
	value J
	task  Task
	lost  <-chan struct{}
	done  chan struct{} // closed when the job is finished; nil if lost is nil
}

// finished is a job that has ended, and its result.
type finished[J, R any] struct {
	job    job[J]
	result R
}

// slot is one unit of concurrency.
type slot[J any] struct {
	index     int
	isHungry  bool // it is in loop.hungry
	current   *poolProcess[J]
	preforked *poolProcess[J] // the next process, which waits for the end of the current one

	retryLaunch   deadline  // when a process may be launched again after a shortage
	shortageSince time.Time // since when forks have failed because of a shortage; zero if the last one succeeded
}

// run handles events until the run is over.
func (l *loop[J, R]) run() {
	for {
		l.dispatch()
		l.sendResults()
		if l.isOver() {
			return
		}
		var output chan<- R
		var next R
		if l.results.len() > 0 {
			output, next = l.config.Output, l.results.first().result
		}
		input := l.input
		if !l.wantsJobs() {
			input = nil
		}
		select {
		case e := <-l.events:
			l.handle(e)
			l.handlePending()
		case value, open := <-input:
			l.accept(value, open)
		case output <- next:
			l.resultSent()
		case <-l.deadlines.timer.C:
			l.deadlines.expire()
		case <-l.signals.NoNewTasks:
			l.signals.NoNewTasks = nil
			l.halt(nil)
		case <-l.signals.Terminate:
			l.signals.Terminate = nil
			l.halt(nil)
			l.forEachProcess(func(w *poolProcess[J]) { l.terminate(w, Interrupted) })
		case <-l.signals.Kill:
			l.signals.Kill = nil
			l.halt(nil)
			l.killAll()
		case <-l.signals.NoResults:
			l.signals.NoResults = nil
			l.dropResults()
		}
	}
}

// isOver reports whether the run is over. It retires the processes once all jobs are done.
func (l *loop[J, R]) isOver() bool {
	if !l.closing && l.input == nil && l.openJobs == 0 {
		l.closing = true
		l.endLaunches()
		l.forEachProcess(l.stopIdle)
	}
	return (l.closing || l.stopping) && l.live == 0 && l.results.len() == 0
}

// endLaunches prevents further launches.
func (l *loop[J, R]) endLaunches() {
	if !isClosed(l.cancelLaunch) {
		close(l.cancelLaunch)
	}
}

// handlePending handles the events that have already arrived.
func (l *loop[J, R]) handlePending() {
	for range cap(l.events) {
		select {
		case e := <-l.events:
			l.handle(e)
		default:
			return
		}
	}
}

func (l *loop[J, R]) handle(e event[J]) {
	switch {
	case e.batch != nil:
		l.onBatch(e.process, e.batch)
	case e.exited:
		l.onExited(e.process)
	case e.launched != nil:
		l.onLaunched(e.process, e.launched)
	case e.lost != nil:
		l.onLost(*e.lost)
	case e.panicked != nil:
		l.halt(e.panicked)
		l.killAll()
	}
}

// spawn runs f in a goroutine. A panic in f fails the run.
func (l *loop[J, R]) spawn(f func()) {
	go func() {
		if p := panics.Try(f); p != nil {
			l.post(event[J]{panicked: fmt.Errorf("process pool: a goroutine panicked: %w", p.AsError())})
		}
	}()
}

// post sends an event to the loop. It returns false if Run has returned.
func (l *loop[J, R]) post(e event[J]) bool {
	select {
	case l.events <- e:
		return true
	case <-l.done:
		return false
	}
}

// forEachProcess calls f for each process that is not gone.
func (l *loop[J, R]) forEachProcess(f func(*poolProcess[J])) {
	for _, s := range l.slots {
		for _, w := range []*poolProcess[J]{s.current, s.preforked} {
			if w != nil {
				f(w)
			}
		}
	}
}

// killAll kills every process, and those that are being launched as soon as they have been.
func (l *loop[J, R]) killAll() {
	l.killed = true
	l.forEachProcess(func(w *poolProcess[J]) { l.terminate(w, Interrupted); l.kill(w) })
}

// halt prevents further tasks from starting, and releases the jobs that have not started. If err is
// not nil, Run returns it.
func (l *loop[J, R]) halt(err error) {
	if err != nil && l.err == nil {
		l.err = err
	}
	l.stopping = true
	l.input = nil
	l.endLaunches()
	l.forEachProcess(func(w *poolProcess[J]) {
		l.revoke(w, w.sent.len())
		l.stopIdle(w)
	})
	if err != nil && l.config.OnError != nil {
		l.config.OnError(err)
	}
	l.releaseBacklog()
}

// end passes on the result of a job.
func (l *loop[J, R]) end(j job[J], r TaskResult) {
	l.results.push(finished[J, R]{j, l.config.Result(j.value, r)})
	if l.noResults {
		l.dropResults()
	}
}

// sendResults sends results until Output is full.
func (l *loop[J, R]) sendResults() {
	for l.results.len() > 0 {
		select {
		case l.config.Output <- l.results.first().result:
			l.resultSent()
		default:
			if l.config.OnBlocked != nil {
				l.config.OnBlocked(l.results.first().job.value)
			}
			return
		}
	}
}

// resultSent finishes the job whose result was sent.
func (l *loop[J, R]) resultSent() {
	f := l.results.pop()
	l.finish(&f.job)
	if l.config.OnSent != nil {
		l.config.OnSent(f.job.value)
	}
}

// dropResults releases the jobs whose results cannot be sent any more.
func (l *loop[J, R]) dropResults() {
	l.noResults = true
	for l.results.len() > 0 {
		l.release(l.results.pop().job)
	}
}

// release gives a job back to the caller.
func (l *loop[J, R]) release(j job[J]) {
	l.finish(&j)
	l.config.OnRelease(j.value)
}

// finish removes a job from the in-flight count.
func (l *loop[J, R]) finish(j *job[J]) {
	if j.done != nil {
		close(j.done)
	}
	l.openJobs--
}

// onBatch handles what a process has written, and gives the batch back to its reader.
func (l *loop[J, R]) onBatch(w *poolProcess[J], b *replyBatch) {
	for i := range b.replies {
		if w.violation != "" {
			break
		}
		l.onReply(w, &b.replies[i])
	}
	l.updateLimit(w)
	err := b.err
	if err == nil {
		w.batches <- b // has room for both batches
		l.want(w.slot)
		return
	}
	if w.violation == "" {
		if text, ok := violationOf(err); ok {
			l.violate(w, text)
		}
	}
	w.readErr, w.readDone = err, true
	l.onReadDone(w)
}

// violationOf returns the text of an error that is the fault of the process.
func violationOf(err error) (text string, ok bool) {
	switch e := err.(type) { //nolint:errorlint // the reader returns it unwrapped
	case *protocolError:
		return e.Error(), true
	default:
		return err.Error(), err == taskproto.ErrCorruptRing
	}
}
