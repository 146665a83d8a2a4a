package stages

import (
	"context"
	"time"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/procexec"
)

// Warm runs the tasks it takes in the warm processes of a pool, one a slot. What a
// process is known to be done with soon it is handed ahead, and the run is told to
// fetch as much.
//
// The run fails if processes do not start. Tasks that have not been run are released.
func Warm(run *pipeline.Run, pool *procexec.Pool) pipeline.Stage[*pipeline.Delivery, pipeline.Result] {
	return func(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- pipeline.Result) error {
		phases := run.Phases()
		patience := time.Duration(0)
		if run.Shared() {
			patience = Patience
		}
		return procexec.Run(pool, procexec.Jobs[*pipeline.Delivery]{
			In: in,
			Task: func(d *pipeline.Delivery) procexec.Task {
				return procexec.Task{ID: d.Task.ID, Data: d.Task.Data, Attempt: d.Attempt}
			},
			Lost: func(d *pipeline.Delivery) <-chan struct{} {
				if d.Expires().IsZero() { // nobody can take it from us
					return nil
				}
				return d.Lost()
			},
			Done: func(d *pipeline.Delivery, report procexec.Report) {
				outcome := outcomeOf(report)
				outcome.Slot = report.Slot
				run.Observe(outcome.Elapsed)
				// As in Execute: what has been run is told, whatever else ends.
				if pipeline.Send(phases.Settle, out, pipeline.Result{Delivery: d, Outcome: outcome}) == nil {
					d.FreeSlot()
				}
			},
			GiveBack: func(d *pipeline.Delivery) { d.GiveBack() },
			Patience: patience,
			Stall:    run.Stall,
			Ahead:    run.SetAhead,
			Failed:   func(err error) { run.Fail(err); run.Stop(err) },
		}, procexec.Ends{Stop: ctx.Done(), Term: phases.Work.Done(), Kill: phases.Kill.Done()})
	}
}
