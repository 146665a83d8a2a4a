package pipeline

import (
	"context"
	"errors"
	"time"
)

// This file implements the shutdown of a run. The phases end in this order. The first line shows
// what ends them: a call, or the end of a time limit.
//
//	Stop or Kill        GracePeriod    KillDelay    settling         closing
//	Fetch, Shutdown ──▶ Terminate ───▶ Kill ──────▶ Settle ────────▶ Close
//	tasks are notified  SIGTERM        SIGKILL      unsettled tasks  open resources
//	                                                are abandoned    are abandoned
//
// A phase ends early if there is nothing left to do in it. When no task runs any more, urgency
// determines how long settling and closing may take. After Stop, a run ends within GracePeriod +
// KillDelay + 7 s. After Kill, it ends within 2 s. Both limits hold even if a request to the source
// never returns.

// urgency determines how long settling and closing may take after the last task has ended.
type urgency int

const (
	planned urgency = iota // the source is exhausted, or StopFetching or Fail was called
	stopped
	killed
)

// The time limits of settling and closing, for each urgency. The limits without a comment start
// when the last task ends, or at a later call of Stop or Kill.
const (
	stoppedSettle, stoppedClose = 5 * time.Second, 7 * time.Second
	killedSettle, killedClose   = time.Second, 2 * time.Second
	plannedClose                = 10 * time.Second // after settling
	unwind                      = time.Second      // for the stages to return when the Settle phase has ended
	noticeAfter                 = 2 * time.Second  // until the run logs what settling waits for
)

// Stop shuts the run down, for example after a signal. The run stops fetching, releases the tasks
// that have not started, and gives running tasks the grace period. Wait does not return cause as an
// error. If Stop is called again, the new cause is ignored. Stop does not block.
func (r *Run) Stop(cause error) {
	r.endShutdown(cause)
	r.raiseUrgency(stopped)
}

// StopFetching ends the run without a time limit for running tasks. The run stops fetching,
// releases the tasks that have not started, and ends when the running tasks have ended. Use
// StopFetching for a planned end, or for an end that the provider has announced. Wait does not
// return cause as an error. Stop, Fail and Kill may follow. StopFetching does not block.
func (r *Run) StopFetching(cause error) { r.endFetch(cause) }

// Fail ends the run because of an error that concerns the run and not a single task. Running tasks
// may finish, as after StopFetching, and Wait returns err. If Fail is called again, the new error
// is ignored. Stop or Kill may follow. Fail does not block. It does nothing if err is nil.
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

// announce passes the error of the first Fail to Options.OnFail, or logs it.
func (r *Run) announce(err error) {
	if r.opts.OnFail != nil {
		r.opts.OnFail(err)
		return
	}
	running, msg := r.Status().Running, "run failed: stopped fetching tasks"
	if running > 0 {
		msg += ", waiting for running tasks to end"
	}
	r.opts.Log.Error().Err(err).Int64("running", running).Msg(msg)
}

// Kill ends the run like Stop, but kills running tasks immediately. It also shortens the time
// limits of settling and closing. Wait does not return cause as an error. Kill does not block.
func (r *Run) Kill(cause error) {
	r.endShutdown(cause) // before endKill: otherwise, all tasks could end before Wait knows that it must call OnStop
	r.endKill(cause)     // also ends the Terminate phase
	r.raiseUrgency(killed)
}

// Wait waits for the end of the run. It returns the error that was passed to Fail and the errors of
// the stages, or nil. It also returns an error if the output of a stage is not used, or if there is
// no source. Ending the run with Stop, StopFetching or Kill is not an error. Call Wait once, after
// adding the last stage.
//
// When Wait returns, every delivery has been settled, the source is closed, and every stage has
// returned. If the time limits were too short for that, Wait returns an error that lists the stages
// and tasks that have not ended. After Kill, Wait logs this error instead.
//
// Phases.Close remains open after Wait, so that the caller can close resources such as a sink.
func (r *Run) Wait() error {
	r.checkComplete()
	executed, settled := r.watchStages()
	defer r.watchStall()()
	select {
	case <-executed:
	case <-r.phases.Shutdown.Done():
	case <-r.inFlight.quiet:
		r.awaitReports(executed)
	}
	r.stopTasks(executed)
	r.startLimits()
	stopNotice := r.startNotice()
	select {
	case <-settled:
	case <-r.phases.Settle.Done():
		within(unwind, settled, r.phases.Close)
	}
	stopNotice()
	r.endSettle(errFinished)
	r.endKill(errFinished) // no task runs any more; canceling frees the contexts
	r.unhook()
	r.limitClosing()
	errs := []error{r.timeoutError(), r.failed()}
	if isDone(settled) {
		errs = append(errs, r.releaseDropped())
	}
	for _, f := range r.onEnd { // no goroutine adds functions any more
		f()
	}
	if isDone(settled) {
		errs = append(errs, r.closeSource())
	}
	return errors.Join(errs...)
}

// watchStages returns two channels. executed is closed when the stages up to and including the
// execution have returned. settled is closed when all stages have returned.
func (r *Run) watchStages() (executed, settled <-chan struct{}) {
	r.mu.Lock()
	r.waiting = true
	r.mu.Unlock()
	noTask, noStage := make(chan struct{}), make(chan struct{})
	go func() { r.executing.Wait(); close(noTask); r.reporting.Wait(); close(noStage) }()
	return noTask, noStage
}

// awaitReports waits until executed is closed. It is called when no task runs any more. The stage
// that executes tasks may still wait for the next stage to receive its results. If that takes
// longer than Options.SettleTimeout, the Settle phase ends.
func (r *Run) awaitReports(executed <-chan struct{}) {
	r.mu.Lock()
	r.settleBy = newLimit(r.opts.SettleTimeout, func() {
		if r.Status().Unreported > 0 {
			r.abandon()
		}
	})
	r.mu.Unlock()
	defer r.startNotice()()
	select {
	case <-executed:
	case <-r.phases.Settle.Done():
	case <-r.phases.Shutdown.Done():
	}
}

// stopTasks ends the running tasks if the Shutdown phase has ended. It calls Options.OnStop, waits
// for the grace period, ends the Terminate phase, waits for the kill delay, and ends the Kill
// phase. It returns early when executed is closed.
func (r *Run) stopTasks(executed <-chan struct{}) {
	if !isDone(r.phases.Shutdown.Done()) { // not decided by a select, which may take another ready case
		return
	}
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
	if r.settleBy != nil { // the time limit that awaitReports has started
		r.settleBy.timer.Stop()
	}
	r.settleBy = newLimit(r.opts.SettleTimeout, r.abandon)
	r.closeBy = newLimit(r.opts.SettleTimeout+plannedClose, func() { r.endClose(context.DeadlineExceeded) })
	r.shortenLimits()
}

// raiseUrgency makes the run at least as urgent as u. It has an effect even after Wait has
// returned, because the Close phase may still be open.
func (r *Run) raiseUrgency(u urgency) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u > r.urgency {
		r.urgency = u
		r.shortenLimits()
	}
}

// shortenLimits applies the time limits of the run's urgency. The caller holds r.mu.
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

// limit is a timer that can be shortened but not extended.
type limit struct {
	timer *time.Timer
	at    time.Time
}

func newLimit(d time.Duration, end func()) *limit {
	return &limit{time.AfterFunc(d, end), time.Now().Add(d)}
}

// within makes the timer end at d from now, unless it already ends earlier.
func (l *limit) within(d time.Duration) {
	if at := time.Now().Add(d); at.Before(l.at) && l.timer.Stop() {
		l.at = at
		l.timer.Reset(d)
	}
}

// startNotice starts a timer. If settling takes longer than noticeAfter, the run logs what it is
// waiting for. stop ends the timer.
func (r *Run) startNotice() (stop func()) {
	ended := make(chan struct{})
	timer := time.AfterFunc(noticeAfter, func() { defer close(ended); r.announceSettling() })
	return func() {
		if !timer.Stop() {
			<-ended
		}
	}
}

// announceSettling logs why the run has not ended although no task runs any more.
func (r *Run) announceSettling() {
	unreported, settling := r.Status().Unreported, r.inFlight.settling.Load()
	r.mu.Lock()
	remaining := time.Until(r.settleBy.at)
	r.mu.Unlock()
	msg := "no tasks are running: waiting for events to be written before the worker exits"
	switch {
	case remaining <= 0 || unreported+settling == 0:
		return
	case unreported == 0:
		msg = "no tasks are running: waiting for the source to confirm that finished tasks are removed or released"
	}
	r.opts.Log.Info().Int64("events_pending", unreported).Int64("settlements_pending", settling).
		Float64("limit_seconds", remaining.Round(100*time.Millisecond).Seconds()).Msg(msg)
}

// limitClosing ends the timer of settling and starts the time limit of closing.
func (r *Run) limitClosing() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settleBy.timer.Stop()
	r.closeBy.within(plannedClose)
}

// abandon ends the Settle phase because its time is over, and records what had not ended.
func (r *Run) abandon() {
	unfinished := r.unfinished()
	r.mu.Lock()
	r.abandoned = unfinished
	r.mu.Unlock()
	r.endSettle(context.DeadlineExceeded)
}

// timeoutError returns an error that lists what had not ended if the time to settle was over before
// everything had ended. Otherwise it returns nil. After Kill, it logs the error and returns nil, because the user asked not to wait.
func (r *Run) timeoutError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	abandoned := r.abandoned
	if abandoned == nil || len(abandoned.stages) == 0 && abandoned.unsettled == 0 {
		return nil
	}
	if r.urgency == killed {
		r.opts.Log.Warn().Err(abandoned).Msg("the run was killed before all tasks were acknowledged or released; those tasks become available again when their leases expire")
		return nil
	}
	return abandoned
}

// failed returns the error that was passed to Fail and the errors of the stages, without
// duplicates.
func (r *Run) failed() error {
	err := r.stageErrors()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil || errors.Is(err, r.failure) {
		return err
	}
	return errors.Join(r.failure, err)
}

// within waits until done is closed, d has passed or ctx is done. It reports whether done is
// closed.
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

// closeSource closes the source. It uses at most three quarters of the time limit, because the
// caller needs the rest to close other resources.
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

func (r *Run) unfinished() *shutdownTimeoutError {
	e := &shutdownTimeoutError{}
	r.mu.Lock()
	for _, st := range r.stages {
		if !st.done.Load() {
			e.stages = append(e.stages, st.name)
		}
	}
	r.mu.Unlock()
	ds := r.inFlight.unsettled()
	e.unsettled = len(ds)
	for _, d := range ds[:min(len(ds), maxListed)] {
		e.tasks = append(e.tasks, d.Task.ID)
	}
	return e
}
