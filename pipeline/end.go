package pipeline

import (
	"context"
	"errors"
	"time"
)

// The end of a run, on one page. The phases of a run end in this order, each by a call or
// when its time is over:
//
//	Stop or Kill          Grace          KillDelay       settling         closing
//	Fetch, Stop end ───▶ Work ends ───▶ Kill ends ───▶ Settle ends ───▶ Close ends
//	tasks are notified    SIGTERM        SIGKILL     results are given   everything is
//	                                                        up             given up
//
// A phase that has nothing left to do is skipped. Once no task runs, urgency says how
// long settling and closing may take: Stop ends a run within Grace, KillDelay and 7 s,
// and Kill within 2 s, whatever hangs.

// urgency is how soon a run has to be over once no task runs any more.
type urgency int

const (
	planned urgency = iota // the source has ended, or Drain or Fail was called
	stopped
	killed
)

// Limits of settling and of closing. Both count from when no task runs any more, and so
// from when the second one is the limit of all that is left to do.
const (
	stoppedSettle, stoppedClose = 5 * time.Second, 7 * time.Second
	killedSettle, killedClose   = time.Second, 2 * time.Second
	plannedClose                = 10 * time.Second // after settling
	unwind                      = time.Second      // for stages to return once Settle has ended
)

// Stop shuts the run down because somebody asked for it, such as a user's signal:
// nothing more is fetched, what has not started is released at once, and what runs has
// the grace period. Only the first call counts; its cause is kept, and is no error of
// the run. It does not block.
func (r *Run) Stop(cause error) {
	r.endStop(cause)
	r.hurry(stopped)
}

// Drain ends the run once what runs has ended, however long that takes: nothing more is
// fetched, and what has not started is released at once. It is for an end that was
// planned, or that the provider has announced, and is no error of the run. Stop, Fail and
// Kill may follow. It does not block.
func (r *Run) Drain(cause error) { r.endFetch(cause) }

// Fail ends the run because of an error that is not a task's: as Drain, and Wait returns
// err. What can still run to its end does so. It is the one way to end a run for a fault;
// Stop, Drain and Kill are ends that Wait reports as success. Only the first error
// counts. Stop or Kill may follow. It does not block, and does nothing for nil.
func (r *Run) Fail(err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	first := r.failure == nil
	if first {
		r.failure = err
	}
	r.mu.Unlock()
	r.endFetch(err)
	if first {
		r.opts.Log.Error().Err(err).Msg("the run has failed: no further task starts, and running tasks may finish")
	}
}

// Kill ends the run at once: as Stop, and what runs is killed. It is no error of the
// run. It also cuts short what Wait does after the last task has ended.
func (r *Run) Kill(cause error) {
	r.endKill(cause) // and with it the phases before
	r.hurry(killed)
}

// Wait waits for the run's end and returns its error: that of Fail and those of its
// stages, or nil. Stop, Drain and Kill are no errors. It is called once, after the last
// stage has been added. When it returns, every delivery has been settled, the source is
// closed, and every stage has returned, except for those that a StuckError names.
//
// Phases.Close goes on for what is left to the caller, such as closing a sink.
func (r *Run) Wait() error {
	ran, settled := r.watchStages()
	select {
	case <-ran:
	case <-r.phases.Stop.Done():
		r.stop(ran)
	}
	r.limit() // from here on
	select {
	case <-settled:
	case <-r.phases.Settle.Done():
		within(unwind, settled, r.phases.Close)
	}
	r.endSettle(errOver)
	r.endKill(errOver) // releases the contexts; nothing is left to kill
	r.unhook()
	r.limitClosing()
	errs := []error{r.stuckError(), r.failed()}
	if isDone(settled) {
		errs = append(errs, r.sweep(), r.closeSource())
	}
	return errors.Join(errs...)
}

// watchStages returns channels that are closed when every task has been run, and when
// every stage has returned.
func (r *Run) watchStages() (ran, settled <-chan struct{}) {
	r.mu.Lock()
	r.waiting = true
	r.mu.Unlock()
	noTask, noStage := make(chan struct{}), make(chan struct{})
	go func() { r.working.Wait(); close(noTask); r.telling.Wait(); close(noStage) }()
	return noTask, noStage
}

// stop ends what runs, as Stop asks for: it may finish; then it is asked to; then it
// must.
func (r *Run) stop(ran <-chan struct{}) {
	if r.opts.OnStop != nil {
		if err := recovered(func() error { r.opts.OnStop(context.Cause(r.phases.Stop)); return nil }); err != nil {
			r.Fail(err)
		}
	}
	if within(r.opts.Grace, ran, r.phases.Work) {
		return
	}
	r.endWork(context.DeadlineExceeded)
	if !within(r.opts.KillDelay, ran, r.phases.Kill) {
		r.endKill(context.DeadlineExceeded)
	}
}

// limit begins to limit the time for what is left to do.
func (r *Run) limit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settleBy = newLimit(r.opts.SettleTimeout, r.giveUp)
	r.closeBy = newLimit(r.opts.SettleTimeout+plannedClose, func() { r.endClose(context.DeadlineExceeded) })
	r.shorten()
}

// hurry makes the run at least as urgent as u, also if Wait has returned.
func (r *Run) hurry(u urgency) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u > r.urgency {
		r.urgency = u
		r.shorten()
	}
}

// shorten applies the limits of the run's urgency. The caller holds mu.
func (r *Run) shorten() {
	if r.closeBy == nil || r.urgency == planned { // tasks run, or there is time
		return
	}
	settle, closing := stoppedSettle, stoppedClose
	if r.urgency == killed {
		settle, closing = killedSettle, killedClose
	}
	r.settleBy.within(settle)
	r.closeBy.within(closing)
}

// limit ends something when its time is over.
type limit struct {
	timer *time.Timer
	at    time.Time
}

func newLimit(d time.Duration, end func()) *limit {
	return &limit{time.AfterFunc(d, end), time.Now().Add(d)}
}

// within brings the limit forward to d from now, if it is later.
func (l *limit) within(d time.Duration) {
	if at := time.Now().Add(d); at.Before(l.at) && l.timer.Stop() {
		l.at = at
		l.timer.Reset(d)
	}
}

// limitClosing limits what is left once everything has been settled.
func (r *Run) limitClosing() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settleBy.timer.Stop()
	r.closeBy.within(plannedClose)
}

// giveUp ends the Settle phase because its time is over, and keeps what was not done.
func (r *Run) giveUp() {
	stuck := r.stuck()
	r.mu.Lock()
	r.abandoned = stuck
	r.mu.Unlock()
	r.endSettle(context.DeadlineExceeded)
}

// stuckError returns what the run gave up, or nil.
func (r *Run) stuckError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	stuck := r.abandoned
	if stuck == nil || len(stuck.Stages) == 0 && stuck.Unsettled == 0 {
		return nil
	}
	if r.urgency == killed { // somebody did not want to wait
		r.opts.Log.Warn().Err(stuck).Msg("not everything was settled; those tasks become available when their leases end")
		return nil
	}
	return stuck
}

// Unsettled is how many tasks the run gave up when its time was over: what had come of them
// may be lost, and they become available when their leases end. It is valid once Wait has
// returned.
func (r *Run) Unsettled() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.abandoned == nil {
		return 0
	}
	return r.abandoned.Unsettled
}

// failed returns the errors that ended the run, each once.
func (r *Run) failed() error {
	err := r.stageErrors()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil || errors.Is(err, r.failure) {
		return err
	}
	return errors.Join(r.failure, err)
}

// within reports whether done is closed within d, and before ctx ends.
func within(d time.Duration, done <-chan struct{}, ctx context.Context) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return isDone(done)
}

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// sweep releases what a stage dropped unsettled, which only a stage that
// panicked may do.
func (r *Run) sweep() error {
	for _, d := range r.books.outstanding() {
		r.opts.Log.Warn().Str("task_id", d.Task.ID).Int("attempt", d.Attempt).
			Msg("a stage dropped the task; it is released")
		if err := d.Release(r.phases.Close, 0); err != nil {
			return err
		}
	}
	return nil
}

// closeSource closes the source, and leaves time for what is closed after it.
func (r *Run) closeSource() error {
	if r.source == nil {
		return nil
	}
	r.mu.Lock()
	limit := plannedClose
	switch r.urgency {
	case stopped:
		limit = stoppedClose
	case killed:
		limit = killedClose
	case planned:
	}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.phases.Close, limit*3/4)
	defer cancel()
	return recovered(func() error { return r.source.Close(ctx) })
}

func (r *Run) stageErrors() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, st := range r.stages {
		if st.done.Load() && st.err != nil {
			errs = append(errs, st.err)
		}
	}
	return errors.Join(errs...)
}

func (r *Run) stuck() *StuckError {
	e := &StuckError{}
	r.mu.Lock()
	for _, st := range r.stages {
		if !st.done.Load() {
			e.Stages = append(e.Stages, st.name)
		}
	}
	r.mu.Unlock()
	ds := r.books.outstanding()
	e.Unsettled = len(ds)
	for _, d := range ds[:min(len(ds), 10)] {
		e.Tasks = append(e.Tasks, d.Task.ID)
	}
	return e
}
