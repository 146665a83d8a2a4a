package pipeline

import (
	"context"
	"errors"
	"time"
)

// The shutdown of a run. The phases end in this order, each by a call or by its time limit:
//
//	Stop or Kill        GracePeriod    KillDelay    settling         closing
//	Fetch, Shutdown ──▶ Terminate ───▶ Kill ──────▶ Settle ────────▶ Close
//	tasks are notified  SIGTERM        SIGKILL      unsettled tasks  open resources
//	                                                are abandoned    are abandoned
//
// A phase that has nothing to do is skipped. Once no task runs, urgency limits the time for
// settling and closing: after Stop a run ends within GracePeriod + KillDelay + 7 s, and after
// Kill within 2 s, even if a request never returns.

// urgency determines the time limits that apply once no task runs.
type urgency int

const (
	planned urgency = iota // the source is exhausted, or StopFetching or Fail was called
	stopped
	killed
)

// Time limits of settling and closing. Unless noted otherwise, they are measured from the
// end of the last task, or from the call of Stop or Kill if that is later.
const (
	stoppedSettle, stoppedClose = 5 * time.Second, 7 * time.Second
	killedSettle, killedClose   = time.Second, 2 * time.Second
	plannedClose                = 10 * time.Second // after settling
	unwind                      = time.Second      // for stages to return after the Settle phase
	noticeAfter                 = 2 * time.Second  // until a log line reports what settling waits for
)

// Stop shuts the run down, for example after a signal. It stops fetching, releases the
// tasks that have not started, and gives running tasks the grace period. Only the cause of
// the first call is kept. Wait does not return it as an error. Stop does not block.
func (r *Run) Stop(cause error) {
	r.endShutdown(cause)
	r.raiseUrgency(stopped)
}

// StopFetching stops fetching, releases the tasks that have not started, and ends the run
// once the running tasks have ended, without a time limit. Use it for a planned end, or an
// end announced by the provider. Wait does not return cause as an error. Stop, Fail and
// Kill may follow. StopFetching does not block.
func (r *Run) StopFetching(cause error) { r.endFetch(cause) }

// Fail ends the run like StopFetching, because of an error that is not the error of a task,
// and makes Wait return err. Running tasks may finish. Only the first error is kept. Stop
// or Kill may follow. Fail does not block. It does nothing if err is nil.
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
		r.announce(err)
	}
}

// announce reports the error of the first Fail.
func (r *Run) announce(err error) {
	if r.opts.OnFail != nil {
		r.opts.OnFail(err)
		return
	}
	running, msg := r.Running(), "run failed: stopped fetching"
	if running > 0 {
		msg += ", waiting for running tasks"
	}
	r.opts.Log.Error().Err(err).Int64("running", running).Msg(msg)
}

// Kill ends the run like Stop, but kills running tasks at once. It also shortens the time
// limits of settling and closing. Wait does not return cause as an error. Kill does not
// block.
func (r *Run) Kill(cause error) {
	r.endKill(cause) // also ends the phases before it
	r.raiseUrgency(killed)
}

// Wait waits for the end of the run. It returns the error of Fail and those of the stages,
// or nil. It also returns an error if the output of a stage is not used, or there is no source. Ending the run with Stop, StopFetching or Kill is not an error. Call Wait once,
// after adding the last stage. When Wait returns, every delivery has been settled, the
// source is closed, and every stage has returned. If the time limits were too short for
// that, Wait returns a ShutdownTimeoutError; after Kill, it logs that error instead.
//
// Phases.Close remains open after Wait, for resources that the caller closes, such as a
// sink.
func (r *Run) Wait() error {
	r.checkComplete()
	executed, settled := r.watchStages()
	select {
	case <-executed:
	case <-r.phases.Shutdown.Done():
		r.stop(executed)
	case <-r.inFlight.quiet:
		r.awaitReports(executed)
	}
	r.startLimits()
	stopNotice := r.startNotice()
	select {
	case <-settled:
	case <-r.phases.Settle.Done():
		within(unwind, settled, r.phases.Close)
	}
	stopNotice()
	r.endSettle(errFinished)
	r.endKill(errFinished) // frees the contexts; no task runs any more
	r.unhook()
	r.limitClosing()
	errs := []error{r.timeoutError(), r.failed()}
	if isDone(settled) {
		errs = append(errs, r.releaseDropped(), r.closeSource())
	}
	return errors.Join(errs...)
}

// watchStages returns two channels: executed is closed when the stages up to the execution
// have returned, settled when all stages have.
func (r *Run) watchStages() (executed, settled <-chan struct{}) {
	r.mu.Lock()
	r.waiting = true
	r.mu.Unlock()
	noTask, noStage := make(chan struct{}), make(chan struct{})
	go func() { r.executing.Wait(); close(noTask); r.reporting.Wait(); close(noStage) }()
	return noTask, noStage
}

// awaitReports waits until executed is closed. No task runs any more, but a stage cannot
// return until the outcomes of its tasks have been reported. If that takes longer than the
// time limit of settling, awaitReports ends the Settle phase.
func (r *Run) awaitReports(executed <-chan struct{}) {
	r.mu.Lock()
	r.settleBy = newLimit(r.opts.SettleTimeout, func() {
		if r.Unreported() > 0 {
			r.abandon()
		}
	})
	r.mu.Unlock()
	defer r.startNotice()()
	select {
	case <-executed:
	case <-r.phases.Settle.Done():
	case <-r.phases.Shutdown.Done():
		r.stop(executed)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settleBy.timer.Stop()
}

// stop ends the running tasks. It notifies them, waits for the grace period, ends the
// Terminate phase, waits for the kill delay, and ends the Kill phase.
func (r *Run) stop(executed <-chan struct{}) {
	if r.opts.OnStop != nil {
		if err := recovered(func() error { r.opts.OnStop(context.Cause(r.phases.Shutdown)); return nil }); err != nil {
			r.Fail(err)
		}
	}
	if within(r.opts.GracePeriod, executed, r.phases.Terminate) {
		return
	}
	r.endTerminate(context.DeadlineExceeded)
	if !within(r.opts.KillDelay, executed, r.phases.Kill) {
		r.endKill(context.DeadlineExceeded)
	}
}

// startLimits starts the time limits of settling and closing.
func (r *Run) startLimits() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settleBy = newLimit(r.opts.SettleTimeout, r.abandon)
	r.closeBy = newLimit(r.opts.SettleTimeout+plannedClose, func() { r.endClose(context.DeadlineExceeded) })
	r.shortenLimits()
}

// raiseUrgency makes the run at least as urgent as u. It also works after Wait has
// returned.
func (r *Run) raiseUrgency(u urgency) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u > r.urgency {
		r.urgency = u
		r.shortenLimits()
	}
}

// shortenLimits applies the time limits of the run's urgency. The caller holds mu.
func (r *Run) shortenLimits() {
	if r.closeBy == nil || r.urgency == planned { // closeBy is nil while tasks run
		return
	}
	settle, closing := stoppedSettle, stoppedClose
	if r.urgency == killed {
		settle, closing = killedSettle, killedClose
	}
	r.settleBy.within(settle)
	r.closeBy.within(closing)
}

// limit is a timer that can only be shortened.
type limit struct {
	timer *time.Timer
	at    time.Time
}

func newLimit(d time.Duration, end func()) *limit {
	return &limit{time.AfterFunc(d, end), time.Now().Add(d)}
}

// within shortens the limit to d from now, unless it is shorter already.
func (l *limit) within(d time.Duration) {
	if at := time.Now().Add(d); at.Before(l.at) && l.timer.Stop() {
		l.at = at
		l.timer.Reset(d)
	}
}

// startNotice starts a timer that calls announceSettling, and returns a function that stops
// it.
func (r *Run) startNotice() (stop func()) {
	ended := make(chan struct{})
	timer := time.AfterFunc(noticeAfter, func() { defer close(ended); r.announceSettling() })
	return func() {
		if !timer.Stop() {
			<-ended
		}
	}
}

// announceSettling logs what the run waits for after its last task has ended.
func (r *Run) announceSettling() {
	unreported, settling := r.Unreported(), r.inFlight.settling.Load()
	r.mu.Lock()
	remaining := time.Until(r.settleBy.at)
	r.mu.Unlock()
	msg := "no tasks are running: waiting for events to be written"
	switch {
	case remaining <= 0 || unreported+settling == 0:
		return
	case unreported == 0:
		msg = "no tasks are running: waiting for the source to settle tasks"
	}
	r.opts.Log.Info().Int64("events_pending", unreported).Int64("settlements_pending", settling).
		Float64("limit_seconds", remaining.Round(100*time.Millisecond).Seconds()).Msg(msg)
}

// limitClosing starts the time limit of closing, after settling has ended.
func (r *Run) limitClosing() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settleBy.timer.Stop()
	r.closeBy.within(plannedClose)
}

// abandon ends the Settle phase at its time limit and records what had not ended.
func (r *Run) abandon() {
	unfinished := r.unfinished()
	r.mu.Lock()
	r.abandoned = unfinished
	r.mu.Unlock()
	r.endSettle(context.DeadlineExceeded)
}

// timeoutError returns an error that lists what the run gave up, or nil. After Kill, the error is
// logged and not returned, because the user asked not to wait.
func (r *Run) timeoutError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	abandoned := r.abandoned
	if abandoned == nil || len(abandoned.Stages) == 0 && abandoned.Unsettled == 0 {
		return nil
	}
	if r.urgency == killed {
		r.opts.Log.Warn().Err(abandoned).Msg("the run ended with unsettled tasks; they become available again when their leases expire")
		return nil
	}
	return abandoned
}

// Unsettled returns the number of tasks that were not settled within the time limit. Their
// outcomes may be lost, and the tasks become available when their leases expire. It is
// valid after Wait has returned.
func (r *Run) Unsettled() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.abandoned == nil {
		return 0
	}
	return r.abandoned.Unsettled
}

// failed returns the errors of Fail and of the stages, without duplicates.
func (r *Run) failed() error {
	err := r.stageErrors()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil || errors.Is(err, r.failure) {
		return err
	}
	return errors.Join(r.failure, err)
}

// within reports whether done is closed within d and before ctx is done.
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

// releaseDropped releases the deliveries that a stage has neither settled nor passed on. Only a
// stage that panicked leaves such deliveries behind.
func (r *Run) releaseDropped() error {
	for _, d := range r.inFlight.unsettled() {
		r.opts.Log.Warn().Str("task_id", d.Task.ID).Int("attempt", d.Attempt).
			Msg("releasing a task that a stage dropped unsettled")
		if err := d.Release(r.phases.Close, 0); err != nil {
			return err
		}
	}
	return nil
}

// closeSource closes the source. It uses only a part of the time limit, because the caller closes
// other resources afterwards.
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

func (r *Run) unfinished() *ShutdownTimeoutError {
	e := &ShutdownTimeoutError{}
	r.mu.Lock()
	for _, st := range r.stages {
		if !st.done.Load() {
			e.Stages = append(e.Stages, st.name)
		}
	}
	r.mu.Unlock()
	ds := r.inFlight.unsettled()
	e.Unsettled = len(ds)
	for _, d := range ds[:min(len(ds), 10)] {
		e.Tasks = append(e.Tasks, d.Task.ID)
	}
	return e
}
