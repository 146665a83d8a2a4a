package stages

import (
	"context"
	"time"

	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/pipeline"
)

// Warm runs the tasks it takes in the warm processes of a pool, one a slot. What a
// process is known to be done with soon it is handed ahead, and the run is told to
// fetch as much.
//
// The run fails if processes do not start. Tasks that have not been run are released.
func ExecutePool(run *pipeline.Run, pool *procexec.Pool) pipeline.Stage[*pipeline.Delivery, pipeline.Result] {
	return func(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- pipeline.Result) error {
		phases := run.Phases()
		maxWait := time.Duration(0)
		if run.Shared() {
			maxWait = MaxQueueTime
		}
		return procexec.Run(pool, procexec.RunConfig[*pipeline.Delivery]{
			Jobs: in,
			Task: func(d *pipeline.Delivery) procexec.Task {
				return procexec.Task{ID: d.Task.ID, Data: d.Task.Data, Attempt: d.Attempt}
			},
			Lost: func(d *pipeline.Delivery) <-chan struct{} {
				if d.ExpiresAt().IsZero() { // nobody can take it from us
					return nil
				}
				return d.Lost()
			},
			OnDone: func(d *pipeline.Delivery, report procexec.TaskResult) {
				outcome := outcomeOf(report)
				outcome.Slot = report.Slot
				run.ObserveDuration(outcome.Elapsed)
				// As in Execute: what has been run is told, whatever else ends.
				if pipeline.Send(phases.Settle, out, pipeline.Result{Delivery: d, Outcome: outcome}) == nil {
					d.ReleaseSlot()
				}
			},
			OnRelease:    func(d *pipeline.Delivery) { d.ReleaseAsync() },
			MaxQueueTime: maxWait,
			OnStall:      run.ResetPrefetch,
			OnPrefetch:   run.SetPrefetch,
			OnError:      func(err error) { run.Fail(err); run.Stop(err) },
		}, procexec.StopSignals{NoNewTasks: ctx.Done(), Terminate: phases.Terminate.Done(), Kill: phases.Kill.Done()})
	}
}
