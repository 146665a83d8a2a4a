package procexec

import (
	"errors"
	"fmt"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/prefetch"
	"github.com/ctworker/ctworker/internal/taskproto"
)

// RunConfig configures Run. J is the type of the jobs, and R is the type of the results. For each
// job, Run either sends a result to Output or calls OnRelease. Run never calls two callbacks at the
// same time. Callbacks must not block, because a callback that blocks stops the whole run.
type RunConfig[J, R any] struct {
	// Input is the channel of jobs. When it is closed, Run finishes the remaining jobs and returns.
	Input <-chan J
	// Output returns the channel that receives a result. It is called before each attempt to send
	// that result. While too many results wait because the channel is full, no further jobs are
	// started.
	Output func(R) chan<- R
	// Task returns the task to run for a job.
	Task func(J) Task
	// Result converts the result of a job that has ended to the caller's type.
	Result func(J, TaskResult) R
	// OnSent is called after the result of a job was sent to Output. OnBlocked is called, possibly
	// several times, while the result of a job waits because Output is full. Both may be nil.
	OnSent, OnBlocked func(J)
	// Lost returns a channel that is closed when the lease of the job is lost. It returns nil for a
	// job whose lease cannot be lost. Lost may be nil if no job can lose its lease.
	Lost func(J) <-chan struct{}
	// OnRelease receives a job that Run has not started and will not start. It also receives a job
	// whose result could not be sent to Output before StopSignals.NoResults.
	OnRelease func(J)
	// Prefetch contains the number of slots. It determines how many tasks are sent to a process in
	// advance, and how long jobs may wait while all slots are busy. Jobs that wait longer are
	// released. Run reports the duration of each task to Prefetch.
	Prefetch *prefetch.Controller
	// OnError is called with the error that Run will return, as soon as the error occurs. The
	// caller can then stop sending jobs. May be nil.
	OnError func(error)
}

// Run runs jobs in the processes of p. The run ends when Input is closed and all jobs are done, or
// when a signal ends it. Run returns when every process has exited. If processes cannot be started,
// Run releases the jobs that have not started, and returns a *StartFailedError or another error.
func Run[J, R any](p *Pool, config RunConfig[J, R], signals StopSignals) error {
	l := &loop[J, R]{
		pool: p, config: config, signals: signals, input: config.Input, deadlines: newDeadlines(),
		events: make(chan event[J], 4*config.Prefetch.Slots()), cancelLaunch: make(chan struct{}), done: make(chan struct{}),
	}
	l.backlogDeadline = deadline{index: -1, expire: l.onBacklogOverdue}
	config.Prefetch.UseQueues()
	for i := range config.Prefetch.Slots() {
		s := &slot[J]{index: i}
		s.retryLaunch = deadline{index: -1, expire: func(time.Time) { l.want(s) }}
		l.slots = append(l.slots, s)
		l.want(s)
	}
	ask := l.ask
	p.ask.Store(&ask)
	for {
		panicked := panics.Try(l.run)
		if panicked == nil {
			break
		}
		// For example, a callback has panicked. Halt the run, and handle the remaining events.
		l.halt(fmt.Errorf("process pool: its event loop panicked: %w", panicked.AsError()))
		l.killAll()
	}
	close(l.done)
	l.deadlines.timer.Stop()
	return l.err
}

// loop is the state of one Run. Only the goroutine of Run uses it. Other goroutines send events to
// that goroutine. Each job is in exactly one place: in the backlog, in the sent tasks of one
// process, or in the results.
type loop[J, R any] struct {
	pool    *Pool
	config  RunConfig[J, R]
	signals StopSignals // each signal is set to nil when it has been handled

	slots    []*slot[J]
	hungry   []*slot[J]           // slots that may need a job or a process
	input    <-chan J             // config.Input, until it is closed or the run stops; then nil
	backlog  []job[J]             // jobs that wait for a slot
	results  fifo[finished[J, R]] // results that wait because Output is full
	openJobs int                  // number of jobs received that are neither released nor sent to Output
	live     int                  // number of processes that are not in the state gone

	events          chan event[J]
	deadlines       *deadlines
	backlogDeadline deadline      // when the jobs in the backlog will have waited for too long
	cancelLaunch    chan struct{} // closed when no further process may be started
	done            chan struct{} // closed when Run returns

	closing   bool  // all jobs are done, so idle processes must exit
	stopping  bool  // no further task may start
	killed    bool  // all processes are killed, including those that are still being started
	noResults bool  // no goroutine receives from Output any more
	err       error // the error that Run returns
	failures  int   // number of consecutive failed starts, over all slots
	warnings  taskWarnings
	out       []byte // buffer for the lines that assign writes
}

// event is a message to the loop from another goroutine. Exactly one field other than process is
// set.
type event[J any] struct {
	process  *poolProcess[J]
	launched *launch     // the process was started, or its start failed
	batch    *replyBatch // what the process wrote
	exited   bool        // the process has exited
	printed  chan<- Task // the process has printed something; the loop sends the running task
	running  chan<- []RunningTask
	lost     *job[J] // the job whose lease was lost
	panicked error   // the panic of a goroutine
}

// job is a job from the caller, and its task.
type job[J any] struct {
	value J
	task  Task
	lost  <-chan struct{}
	done  chan struct{} // closed when the job is released or its result is sent; nil if lost is nil
}

// finished is a job whose task has ended, and the result.
type finished[J, R any] struct {
	job    job[J]
	result R
}

// slot is one unit of concurrency. It has at most one process that runs tasks.
type slot[J any] struct {
	index     int
	isHungry  bool // the slot is in loop.hungry
	current   *poolProcess[J]
	preforked *poolProcess[J] // the next process, started in advance; it gets tasks when current is gone

	retryLaunch   deadline  // when to fork again, after a fork failed because a resource was short
	shortageSince time.Time // when forks began to fail because a resource is short; zero if the last fork succeeded
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
			next = l.results.first().result
			output = l.config.Output(next)
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
			l.forEachProcess(func(w *poolProcess[J]) { l.terminate(w, outcome.Interrupted) })
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

// isOver reports whether the run is over. When all jobs are done, it also makes idle processes
// exit.
func (l *loop[J, R]) isOver() bool {
	if !l.closing && l.input == nil && l.openJobs == 0 {
		l.closing = true
		l.endLaunches()
		l.forEachProcess(l.stopIdle)
	}
	return (l.closing || l.stopping) && l.live == 0 && l.results.len() == 0
}

// endLaunches makes sure that no further process is started.
func (l *loop[J, R]) endLaunches() {
	if !isClosed(l.cancelLaunch) {
		close(l.cancelLaunch)
	}
}

// handlePending handles the events that have already arrived. Handling them before the next
// dispatch saves work.
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
	case e.running != nil:
		e.running <- l.running() // never blocks: the channel has a place for it
	case e.printed != nil:
		l.onPrinted(e.process, e.printed)
	case e.launched != nil:
		l.onLaunched(e.process, e.launched)
	case e.lost != nil:
		l.onLost(*e.lost)
	case e.panicked != nil:
		l.halt(e.panicked)
		l.killAll()
	}
}

// spawn runs f in a new goroutine. If f panics, the run fails.
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

// forEachProcess calls f for each process that is not in the state gone.
func (l *loop[J, R]) forEachProcess(f func(*poolProcess[J])) {
	for _, s := range l.slots {
		for _, w := range []*poolProcess[J]{s.current, s.preforked} {
			if w != nil {
				f(w)
			}
		}
	}
}

// killAll kills all processes. A process that is still being started is killed when it has started.
func (l *loop[J, R]) killAll() {
	l.killed = true
	l.forEachProcess(func(w *poolProcess[J]) { l.terminate(w, outcome.Interrupted); l.kill(w) })
}

// halt ends the run early. No further task starts, and the jobs that have not started are released.
// If err is not nil, Run returns err.
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

// end adds the result of a job to the results to send.
func (l *loop[J, R]) end(j job[J], r TaskResult) {
	l.results.push(finished[J, R]{j, l.config.Result(j.value, r)})
	if l.noResults {
		l.dropResults()
	}
}

// sendResults sends results to Output until Output is full.
func (l *loop[J, R]) sendResults() {
	for l.results.len() > 0 {
		select {
		case l.config.Output(l.results.first().result) <- l.results.first().result:
			l.resultSent()
		default:
			if l.config.OnBlocked != nil {
				l.config.OnBlocked(l.results.first().job.value)
			}
			return
		}
	}
}

// resultSent removes the first result, which was sent to Output, and finishes its job.
func (l *loop[J, R]) resultSent() {
	f := l.results.pop()
	l.finish(&f.job)
	if l.config.OnSent != nil {
		l.config.OnSent(f.job.value)
	}
}

// dropResults releases the jobs whose results wait, because no goroutine receives from Output any
// more.
func (l *loop[J, R]) dropResults() {
	l.noResults = true
	for l.results.len() > 0 {
		l.release(l.results.pop().job)
	}
}

// release returns a job to the caller, who may run it elsewhere.
func (l *loop[J, R]) release(j job[J]) {
	l.finish(&j)
	l.config.OnRelease(j.value)
}

// finish records that a job is released or its result is sent.
func (l *loop[J, R]) finish(j *job[J]) {
	if j.done != nil {
		close(j.done)
	}
	l.openJobs--
}

// onBatch handles the lines that a process has written, and returns the batch to the reader for
// reuse.
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
		w.batches <- b // never blocks: the channel has a place for each of the two batches
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

// violationOf reports whether a read error is a fault of the process. It also returns the text of
// the error.
func violationOf(err error) (text string, ok bool) {
	_, violated := errors.AsType[*protocolError](err)
	return err.Error(), violated || errors.Is(err, taskproto.ErrCorruptRing)
}
