package stages

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/pipeline"
)

// A Runner runs tasks. Package stages has Command; a function of yours becomes
// one with RunnerFunc.
type Runner interface {
	// Run runs one task in a slot, numbered from 0, and returns what came of
	// it. It is called by one goroutine a slot, and owns the delivery only to
	// look at it: it does not settle it.
	//
	// It ends the task early when phases.Work ends (politely), when
	// phases.Kill ends (at once) and when the delivery is Lost, and then
	// returns Interrupted or LeaseLost.
	//
	// An error means that the task was not run, for a reason other than the task
	// itself. It fails the run, and the task is released.
	Run(phases pipeline.Phases, slot int, d *pipeline.Delivery) (pipeline.Outcome, error)
}

// RunnerFunc makes a Runner of a function that runs a task in this process. The
// function's context ends with the Work phase or when the lease is lost; a panic
// in it is the task's exception, with its stack, and a result that it returns is
// one JSON value.
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

// Execute runs the tasks it takes, in as many slots as run has. Each slot has one
// goroutine, which owns a delivery from when it takes it until it passes it on.
//
// A Runner that panics has its task end as an exception; one that returns an
// error ends the run. Outcome.Slot is filled in here.
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

// execution is what the slots of one Execute share.
type executor struct {
	run    *pipeline.Run
	phases pipeline.Phases
	runner Runner
	out    chan<- pipeline.Result

	mu  sync.Mutex
	err error // the first Runner error
}

// slot takes tasks, one after the other, until there are no more, ctx ends, or
// a task cannot be run.
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
			d.ReleaseAsync() // after fail, or this run could fetch it again
			return
		}
		outcome.Slot = slot
		e.run.ObserveDuration(outcome.Elapsed)
		// The run is told to settle what has been run, whatever else ends: only
		// the end of the Settle phase makes it give the task back.
		if pipeline.Send(e.phases.Settle, e.out, pipeline.Result{Delivery: d, Outcome: outcome}) != nil {
			return
		}
		d.ReleaseSlot()
	}
}

// fail fails the run, which cancels ctx in every slot, and starts the grace period of the tasks
// that run in other slots.
func (e *executor) fail(err error) {
	e.mu.Lock()
	if e.err == nil {
		e.err = err
	}
	e.mu.Unlock()
	e.run.Fail(err)
	e.run.Stop(err)
}

// runTask runs one task. A panic becomes its outcome.
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
