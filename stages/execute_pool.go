package stages

import (
	"context"

	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/pipeline"
)

// ExecutePool returns a stage that runs tasks in the worker processes of a pool, one process per
// slot. If tasks are short, the stage sends several tasks to a process in advance, and increases
// the prefetch of run accordingly.
//
// If processes cannot be started, the run fails, and the tasks that have not been executed are
// released.
func ExecutePool(run *pipeline.Run, pool *procexec.Pool) pipeline.Stage[*pipeline.Delivery, pipeline.Result] {
	if pool == nil {
		panic("stages: ExecutePool: the Pool is nil")
	}
	return func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[pipeline.Result]) error {
		phases := run.Phases()
		return procexec.Run(pool, procexec.RunConfig[*pipeline.Delivery, pipeline.Result]{
			Input: in, Output: out.Offer,
			Task: func(d *pipeline.Delivery) procexec.Task {
				return procexec.Task{ID: d.Task.ID, Data: d.Task.Data, Attempt: d.Attempt}
			},
			Lost: func(d *pipeline.Delivery) <-chan struct{} {
				if d.Plumbing().ExpiresAt().IsZero() { // the lease never expires, so it cannot be lost
					return nil
				}
				return d.Lost()
			},
			Result: func(d *pipeline.Delivery, report procexec.TaskResult) pipeline.Result {
				outcome := outcomeOf(report)
				outcome.Slot = report.Slot
				return pipeline.Result{Delivery: d, Outcome: outcome}
			},
			OnSent:    (*pipeline.Delivery).ReleaseSlot,
			OnBlocked: func(d *pipeline.Delivery) { d.Plumbing().TaskEnded() },
			OnRelease: func(d *pipeline.Delivery) { d.ReleaseAsync() },
			Prefetch:  run.Plumbing().Prefetch(),
			OnError:   func(err error) { run.Fail(err); run.Stop(err) },
		}, procexec.StopSignals{
			NoNewTasks: ctx.Done(), Terminate: phases.Terminate.Done(), Kill: phases.Kill.Done(),
			NoResults: phases.Settle.Done(), // results can be reported until the end of the Settle phase
		})
	}
}
