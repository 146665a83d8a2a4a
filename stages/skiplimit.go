package stages

import (
	"context"

	"github.com/ctworker/ctworker/pipeline"
)

// SkipLimit returns a stage that skips the first skip tasks, passes the next limit tasks on, and
// then ends the run. A negative limit means no limit.
//
// A skipped task is not executed, and its lease is left to expire. If the stage released the task
// instead, this worker could receive it again immediately.
func SkipLimit(skip, limit int64) pipeline.Stage[*pipeline.Delivery, *pipeline.Delivery] {
	return func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[*pipeline.Delivery]) error {
		var seen, passed int64
		if limit == 0 {
			return nil
		}
		for d := range in {
			if seen++; seen <= skip {
				if err := d.LetExpire(); err != nil {
					return err
				}
				continue
			}
			if err := out.Send(ctx, d); err != nil {
				return nil // the run is stopping; Send has released d
			}
			if passed++; passed == limit {
				return nil
			}
		}
		return nil
	}
}
