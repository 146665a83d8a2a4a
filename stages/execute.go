package stages

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/pipeline"
)

// Runner executes tasks. Command and RunnerFunc return Runners.
type Runner interface {
	// Run executes one task in a slot, numbered from 0, and returns its outcome. It blocks until
	// the task has ended. Each slot calls Run from one goroutine. Run may read the delivery, but
	// must not settle it.
	//
	// Run ends the task early and returns Interrupted or LeaseLost: it terminates the task when
	// phases.Terminate is done, and kills the task when phases.Kill is done or the lease is lost.
	//
	// An error means that the task could not be executed for a reason that does not depend on the
	// task. The error fails the run, and the task is released.
	Run(phases pipeline.Phases, slot int, d *pipeline.Delivery) (pipeline.Outcome, error)
}

// RunnerFunc returns a Runner that calls f in this process. The context of f is done at the
// end of the Terminate phase or when the lease is lost. The result of f is one JSON value.
// A panic in f becomes an exception of the task, with its stack.
func RunnerFunc(f func(ctx context.Context, task pipeline.Task) (retry bool, result []byte, err error)) Runner {
	return runnerFunc(f)
}

type runnerFunc func(ctx context.Context, task pipeline.Task) (bool, []byte, error)

func (f runnerFunc) Run(phases pipeline.Phases, _ int, d *pipeline.Delivery) (pipeline.Outcome, error) {
	ctx, cancel := context.WithCancelCause(phases.Terminate)
	defer cancel(nil)
	lost := d.Lost()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-lost:
			cancel(pipeline.ErrLeaseLost)
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(nil); <-watched }()

	began := time.Now()
	out := pipeline.Outcome{Kind: pipeline.Completed}
	var err error
	if p := panics.Try(func() { out.RetryRequested, out.Result, err = f(ctx, d.Task) }); p != nil {
		err = p.AsError()
	}
	out.Elapsed = time.Since(began)
	switch {
	case isClosed(lost):
		return pipeline.Outcome{Kind: pipeline.LeaseLost, Elapsed: out.Elapsed}, nil
	case err != nil && phases.Terminate.Err() != nil:
		return pipeline.Outcome{Kind: pipeline.Interrupted, Elapsed: out.Elapsed}, nil
	case err != nil:
		return pipeline.Outcome{Kind: pipeline.Exception, Exception: err.Error(), Elapsed: out.Elapsed}, nil
	}
	return out, nil
}

// Execute returns a stage that runs tasks in as many slots as run has. Each slot has one
// goroutine, which owns a delivery until it passes it on.
//
// If a Runner panics, its task ends with an exception. If a Runner returns an error, the
// run fails. Execute sets Outcome.Slot.
func Execute(run *pipeline.Run, runner Runner) pipeline.Stage[*pipeline.Delivery, pipeline.Result] {
	return func(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- pipeline.Result) error {
		e := executor{run: run, phases: run.Phases(), runner: runner, out: out}
		var slots sync.WaitGroup
		for slot := range run.Slots() {
			slots.Go(func() {
				if p := panics.Try(func() { e.slot(ctx, slot, in) }); p != nil {
					e.fail(p.AsError())
				}
			})
		}
		slots.Wait()
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.err
	}
}

// executor is the state that the slots of one Execute stage share.
type executor struct {
	run    *pipeline.Run
	phases pipeline.Phases
	runner Runner
	out    chan<- pipeline.Result

	mu  sync.Mutex
	err error // first error of the Runner
}

// slot executes tasks, one at a time, until the input is closed, ctx is done, or a task
// cannot be executed.
func (e *executor) slot(ctx context.Context, slot int, in <-chan *pipeline.Delivery) {
	for {
		var d *pipeline.Delivery
		select {
		case <-ctx.Done():
			return
		case next, ok := <-in:
			if !ok {
				return
			}
			d = next
		}
		if ctx.Err() != nil {
			d.ReleaseAsync()
			return
		}
		outcome, err := pipeline.Outcome{Kind: pipeline.LeaseLost}, error(nil)
		if d.Held() { // the lease may have expired while this process was suspended
			outcome, err = e.runTask(slot, d)
		}
		if err != nil {
			e.fail(fmt.Errorf("task %q: %w", d.Task.ID, err))
			d.ReleaseAsync() // after fail; otherwise this run could fetch the task again
			return
		}
		outcome.Slot = slot
		e.run.Plumbing().ObserveDuration(outcome.Elapsed)
		// The result of a task is passed on until the end of the Settle phase, even if ctx is done.
		if pipeline.Send(e.phases.Settle, e.out, pipeline.Result{Delivery: d, Outcome: outcome}) != nil {
			return
		}
		d.ReleaseSlot()
	}
}

// fail fails the run. That cancels ctx in every slot, and starts the grace period of the running
// tasks.
func (e *executor) fail(err error) {
	e.mu.Lock()
	if e.err == nil {
		e.err = err
	}
	e.mu.Unlock()
	e.run.Fail(err)
	e.run.Stop(err)
}

// runTask executes one task. A panic becomes its outcome.
func (e *executor) runTask(slot int, d *pipeline.Delivery) (outcome pipeline.Outcome, err error) {
	began := time.Now()
	if p := panics.Try(func() { outcome, err = e.runner.Run(e.phases, slot, d) }); p != nil {
		return pipeline.Outcome{
			Kind: pipeline.Exception, Exception: p.AsError().Error(), Elapsed: time.Since(began),
		}, nil
	}
	return outcome, err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
