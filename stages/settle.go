package stages

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/sourcegraph/conc"

	"github.com/ctworker/ctworker/pipeline"
)

// SettleOptions say how Settle tells and settles. The zero value works.
type SettleOptions struct {
	// Hostname stands in every event.
	Hostname string
	// RetryDelay is how long a task that is to be retried stays hidden.
	// Default 0: it is available at once.
	RetryDelay time.Duration
	// Tally, if set, counts each task once its event is durable.
	Tally *Tally
	// Now is the clock of the events. Default time.Now.
	Now func() time.Time
	// Log receives settlements that failed: the task will be delivered again.
	Log zerolog.Logger
}

// settleBatch is how many events are written at once at most: as many as have
// come while the last ones were written.
const settleBatch = 256

// Settle ends a pipeline: it writes the event of each task to sink, and settles
// the task once the event is durable. Where the sink fails the run ends, and the
// tasks that were not told of are given back.
func Settle(sink pipeline.Sink, opts SettleOptions) pipeline.Drain[pipeline.Judgment] {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return func(ctx context.Context, in <-chan pipeline.Judgment) error {
		// Settling over a network takes its time, and the next events do not
		// wait for it.
		var settling conc.WaitGroup
		defer settling.Wait()
		batch := make([]pipeline.Judgment, 0, settleBatch)
		events := make([]pipeline.Event, 0, settleBatch)
		for {
			batch = nextBatch(in, batch[:0])
			if len(batch) == 0 {
				return nil
			}
			events = events[:0]
			now := opts.Now()
			for _, j := range batch {
				if e, ok := pipeline.NewTaskEvent(j, opts.Hostname, now); ok {
					events = append(events, e)
				}
			}
			if len(events) > 0 {
				if err := sink.Write(ctx, events); err != nil {
					for _, j := range batch {
						j.GiveBack()
					}
					return fmt.Errorf("%d events could not be written: %w", len(events), err)
				}
			}
			for _, j := range batch {
				if j.Expires().IsZero() { // a local task: nothing to wait for
					opts.settle(ctx, j)
					continue
				}
				settling.Go(func() { opts.settle(ctx, j) })
			}
		}
	}
}

// nextBatch waits for one item and takes those that are there already. Without
// items, in is closed.
func nextBatch(in <-chan pipeline.Judgment, batch []pipeline.Judgment) []pipeline.Judgment {
	j, ok := <-in
	if !ok {
		return batch
	}
	batch = append(batch, j)
	for len(batch) < settleBatch {
		select {
		case j, ok := <-in:
			if !ok {
				return batch
			}
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

func (o *SettleOptions) settle(ctx context.Context, j pipeline.Judgment) {
	if o.Tally != nil {
		o.Tally.add(j)
	}
	if k := j.Outcome.Kind; k == pipeline.Interrupted || k == pipeline.LeaseLost {
		o.Log.Info().Str("task_id", j.Task.ID).Int("attempt", j.Attempt).Stringer("outcome", k).
			Msg("the task has not been run to its end, and has no event")
	}
	var err error
	switch j.Verdict {
	case pipeline.Ack:
		err = j.Ack(ctx)
	case pipeline.Retry:
		err = j.Release(ctx, o.RetryDelay)
	default:
		err = j.Release(ctx, 0)
	}
	if err == nil {
		return
	}
	msg := "could not settle the task; it will be delivered again"
	if errors.Is(err, pipeline.ErrLeaseLost) {
		msg = "the lease was lost before the task was settled; it may run again elsewhere"
	}
	o.Log.Warn().Err(err).Str("task_id", j.Task.ID).Int("attempt", j.Attempt).Msg(msg)
}
