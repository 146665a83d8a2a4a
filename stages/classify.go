package stages

import (
	"context"
	"fmt"

	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/pipeline"
)

// RetryOptions selects the failures to retry. The zero value is the default of the
// specification: retry only tasks that request it.
type RetryOptions struct {
	OnExit, OnException, OnTimeout bool
	// MaxAttempts is the maximum number of deliveries of a task. A task that fails at this attempt
	// or a later one is not retried, and its event contains the reason. An attempt that did not
	// finish, for example because the worker died, counts as well, but is always repeated. Defaults
	// to 0, which means no limit.
	MaxAttempts int
}

// Validate returns an error if MaxAttempts is negative.
func (o RetryOptions) Validate() error {
	return optcheck.Join("stages.RetryOptions", optcheck.NotNegative("MaxAttempts", o.MaxAttempts))
}

// verdictOf returns the action to take on a task after an outcome. It is a pure function. An
// invalid outcome is released, so that the task is not lost.
func verdictOf(o pipeline.Outcome, opts RetryOptions) pipeline.Verdict {
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

// Classify returns a stage that decides on the verdict of each result.
func Classify(opts RetryOptions) pipeline.Stage[pipeline.Result, pipeline.Decision] {
	return func(ctx context.Context, in <-chan pipeline.Result, out chan<- pipeline.Decision) error {
		for r := range in {
			if err := pipeline.Send(ctx, out, opts.decide(r)); err != nil {
				return nil // released; the Settle phase has ended
			}
		}
		return nil
	}
}

// decide returns the decision on a result.
func (o RetryOptions) decide(r pipeline.Result) pipeline.Decision {
	d := pipeline.Decision{Delivery: r.Delivery, Outcome: r.Outcome, Verdict: verdictOf(r.Outcome, o)}
	if d.Verdict == pipeline.Retry && o.MaxAttempts > 0 && r.Attempt >= o.MaxAttempts {
		d.Verdict = pipeline.Ack
		d.RetryDeniedReason = fmt.Sprintf("attempt %d: at most %d attempts are allowed", r.Attempt, o.MaxAttempts)
	}
	return d
}
