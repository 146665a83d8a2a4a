package pipeline

import (
	"context"
	"errors"
	"time"
)

// lastWait bounds the wait for stages that were told to end at once.
const lastWait = 10 * time.Second

// Stop asks the run to end in order: nothing more is fetched, what has not
// started is given back at once, and what runs has the grace period. Only the
// first call counts; its cause is kept. It does not block.
func (r *Run) Stop(cause error) { r.endStop(cause) }

// Drain asks the run to end once what runs has ended, however long that takes: nothing
// more is fetched, and what has not started is given back at once. Stop may follow. It
// does not block.
func (r *Run) Drain(cause error) { r.endFetch(cause) }

// Kill asks the run to end at once: as Stop, and what runs is killed.
func (r *Run) Kill(cause error) {
	r.endKill(cause) // and with it the phases before
}

// Wait waits for the run's end and returns the errors of its stages, or nil.
// Stop and Kill are no errors. It is called once, after the last stage has
// been added. When it returns, every delivery has been settled, the source is
// closed, and every stage has returned, except for those that a StuckError
// names.
func (r *Run) Wait() error {
	r.mu.Lock()
	r.waiting = true
	r.mu.Unlock()
	ran, told := make(chan struct{}), make(chan struct{})
	go func() { r.working.Wait(); close(ran); r.telling.Wait(); close(told) }()

	// Until every task has been run, or somebody says stop.
	select {
	case <-ran:
	case <-r.phases.Fetch.Done():
		select {
		case <-ran: // drained
		case <-r.phases.Stop.Done():
			r.stop(ran)
		}
	}

	// What came of them is told and settled.
	var stuck error
	if !within(r.opts.SettleTimeout, told, nil) {
		stuck = r.stuck()
	}
	r.endSettle(errOver)
	if stuck != nil && !within(time.Second, told, nil) {
		return errors.Join(stuck, r.stageErrors())
	}
	r.Kill(errOver) // releases the contexts; nothing is left to kill
	r.unhook()
	return errors.Join(stuck, r.stageErrors(), r.sweep(), r.closeSource())
}

// stop ends what runs, as Stop asks for: it may finish; then it is asked to; then it
// must.
func (r *Run) stop(ran <-chan struct{}) {
	if r.opts.OnStop != nil {
		r.opts.OnStop(context.Cause(r.phases.Stop))
	}
	if within(r.opts.Grace, ran, r.phases.Work) {
		return
	}
	r.endWork(context.DeadlineExceeded)
	if !within(r.opts.KillDelay, ran, r.phases.Kill) {
		r.endKill(context.DeadlineExceeded)
		within(lastWait, ran, nil)
	}
}

// within reports whether done is closed within d, and before ctx ends.
func within(d time.Duration, done <-chan struct{}, ctx context.Context) bool {
	var ended <-chan struct{}
	if ctx != nil {
		ended = ctx.Done()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
	case <-ended:
	}
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
	dropped := r.books.outstanding()
	if len(dropped) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.phases.Settle), lastWait)
	defer cancel()
	for _, d := range dropped {
		r.opts.Log.Warn().Str("task_id", d.Task.ID).Int("attempt", d.Attempt).
			Msg("a stage dropped the task; it is given back")
		if err := d.Release(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) closeSource() error {
	if r.source == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.phases.Settle), lastWait)
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

func (r *Run) stuck() error {
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
