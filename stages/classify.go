package stages

import (
	"context"

	"github.com/ctworker/ctworker/pipeline"
)

// RetryOptions say which failures are worth another attempt. The zero value is
// the specification's default: none but those that a task asks for itself.
type RetryOptions struct {
	OnExit, OnException, OnTimeout bool
}

// Judge says what to do with a task after an outcome. It is a pure function; an
// invalid outcome is released, so that nothing is lost by it.
func Judge(o pipeline.Outcome, opts RetryOptions) pipeline.Verdict {
	retry := false
	switch o.Kind {
	case pipeline.Completed:
		retry = o.Retry
	case pipeline.Exception:
		retry = opts.OnException && !o.NoRetry
	case pipeline.TimedOut:
		retry = opts.OnTimeout
	case pipeline.Exited:
		retry = opts.OnExit
	default: // interrupted, lease lost
		return pipeline.Release
	}
	if retry {
		return pipeline.Retry
	}
	return pipeline.Ack
}

// Classify puts the verdict on each result.
func Classify(opts RetryOptions) pipeline.Stage[pipeline.Result, pipeline.Judgment] {
	return func(ctx context.Context, in <-chan pipeline.Result, out chan<- pipeline.Judgment) error {
		for r := range in {
			j := pipeline.Judgment{Delivery: r.Delivery, Outcome: r.Outcome, Verdict: Judge(r.Outcome, opts)}
			if err := pipeline.Send(ctx, out, j); err != nil {
				return nil // given back; the run's time is over
			}
		}
		return nil
	}
}
