package stages

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/internal/userstack"
	"github.com/ctworker/ctworker/pipeline"
)

// Runner executes tasks. Command and RunnerFunc return Runners.
type Runner interface {
	// Run executes one task and returns its outcome. It blocks until the task has ended. slot is
	// the slot of the task, numbered from 0. Run is called from one goroutine per slot. It may read
	// the delivery, but must not settle it.
	//
	// Run terminates the task when phases.Terminate is done, and kills it when phases.Kill is done.
	// The outcome is then Interrupted. Run also kills the task when the lease is lost. The outcome
	// is then LeaseLost.
	//
	// Run returns an error if the task could not be executed for a reason that does not depend on
	// the task. The run then fails, and the task is released.
	Run(phases pipeline.Phases, slot int, d *pipeline.Delivery) (pipeline.Outcome, error)
}

// RunnerFunc returns a Runner that calls f in this process. The context of f is done at the end of
// the Terminate phase, or when the lease is lost. The result of f is one JSON value. A nil result
// becomes null, and a result that is not valid JSON becomes a string. If f panics, the outcome of the task
// is an exception with the stack of the panic.
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
		err = errors.New(panicText(p))
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

// panicText returns the argument of panic and the stack of the panic, without the frames of this
// package.
func panicText(p *panics.Recovered) string {
	return fmt.Sprintf("panic: %v%s", p.Value, userstack.Format(p.Callers, func(function string) bool {
		return strings.HasPrefix(function, "github.com/ctworker/ctworker/stages.runnerFunc.Run")
	}))
}

// Execute returns a stage that runs tasks in the slots of run. Each slot has one goroutine, which
// owns a delivery until it sends the delivery to the next stage.
//
// If the Runner panics, the outcome of the task is an exception. If the Runner returns an error,
// the run fails.
func Execute(run *pipeline.Run, runner Runner) pipeline.Stage[*pipeline.Delivery, pipeline.Result] {
	if runner == nil {
		panic("stages: Execute: the Runner is nil")
	}
	return func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[pipeline.Result]) error {
		e := executor{run: run, phases: run.Phases(), runner: runner, out: out}
		var slots sync.WaitGroup
		for slot := range run.Plumbing().Prefetch().Slots() {
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
	out    pipeline.Output[pipeline.Result]

	mu  sync.Mutex
	err error // first error of the Runner
}

// slot executes tasks, one at a time. It returns when the input is closed, ctx is done, or a task
// could not be executed.
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
		if d.Held() { // the lease may have expired while the machine was suspended
			outcome, err = e.runTask(slot, d)
		}
		if err != nil {
			e.fail(fmt.Errorf("task %q: %w", d.Task.ID, err))
			d.ReleaseAsync() // only after fail, because this run could otherwise fetch the task again
			return
		}
		outcome.Slot = slot
		e.run.Plumbing().Prefetch().Observe(outcome.Elapsed, len(d.Task.Data))
		// Do not use ctx here: it is done when the run stops fetching, but results can be reported
		// until the end of the Settle phase.
		if e.out.Send(e.phases.Settle, pipeline.Result{Delivery: d, Outcome: outcome}) != nil {
			return
		}
		d.ReleaseSlot()
	}
}

// fail fails the run: it stops fetching and gives the running tasks of all slots the grace period.
func (e *executor) fail(err error) {
	e.mu.Lock()
	if e.err == nil {
		e.err = err
	}
	e.mu.Unlock()
	e.run.Fail(err)
	e.run.Stop(err)
}

// runTask executes one task. If the Runner panics, the outcome is an exception.
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
