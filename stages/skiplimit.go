package stages

import (
	"context"

	"github.com/ctworker/ctworker/pipeline"
)

// Window passes on the tasks after the first skip, and ends the run after limit
// of them; a negative limit is none.
//
// A skipped task is neither run nor acknowledged, and its lease runs out by
// itself: given back at once, this worker would only be handed it again.
func SkipLimit(skip, limit int64) pipeline.Stage[*pipeline.Delivery, *pipeline.Delivery] {
	return func(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- *pipeline.Delivery) error {
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
			if err := pipeline.Send(ctx, out, d); err != nil {
				return nil // given back; the run is stopping
			}
			if passed++; passed == limit {
				return nil
			}
		}
		return nil
	}
}
