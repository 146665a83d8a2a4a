package stages

import (
	"context"
	"fmt"

	"github.com/ctworker/ctworker/pipeline"
)

// RetryOptions say which failures are worth another attempt. The zero value is
// the specification's default: none but those that a task asks for itself.
type RetryOptions struct {
	OnExit, OnException, OnTimeout bool
	// MaxAttempts is how often a task may be delivered: one that fails at this
	// attempt, or a later one, is not tried again, and its event says so. An attempt
	// that came to no end, as its worker went away, counts too, but is always made up
	// for. Default 0: without end.
	MaxAttempts int
}

// Judge says what to do with a task after an outcome. It is a pure function; an
// invalid outcome is released, so that nothing is lost by it.
func Decide(o pipeline.Outcome, opts RetryOptions) pipeline.Verdict {
	retry := false
	switch o.Kind {
	case pipeline.Completed:
		retry = o.RetryRequested
	case pipeline.Exception:
		retry = opts.OnException && !o.Permanent
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
func Classify(opts RetryOptions) pipeline.Stage[pipeline.Result, pipeline.Decision] {
	return func(ctx context.Context, in <-chan pipeline.Result, out chan<- pipeline.Decision) error {
		for r := range in {
			if err := pipeline.Send(ctx, out, opts.decide(r)); err != nil {
				return nil // given back; the run's time is over
			}
		}
		return nil
	}
}

// judge puts the verdict on a result.
func (o RetryOptions) decide(r pipeline.Result) pipeline.Decision {
	j := pipeline.Decision{Delivery: r.Delivery, Outcome: r.Outcome, Verdict: Decide(r.Outcome, o)}
	if j.Verdict == pipeline.Retry && o.MaxAttempts > 0 && r.Attempt >= o.MaxAttempts {
		j.Verdict = pipeline.Ack
		j.RetryDeniedReason = fmt.Sprintf("this was attempt %d, and %d are allowed", r.Attempt, o.MaxAttempts)
	}
	return j
}
