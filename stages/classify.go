package stages

import (
	"fmt"

	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/pipeline"
)

// RetryOptions selects the failures after which a task is retried. The zero value is the default of
// the specification: only tasks that request a retry are retried.
type RetryOptions struct {
	OnExit, OnException, OnTimeout bool
	// MaxAttempts is the maximum number of attempts. From the attempt with this number on, a task
	// is not retried. If its outcome qualifies for a retry, its event contains the reason. An
	// attempt that did not finish, for example because the worker died, also counts, but the task
	// is then repeated even if the maximum is reached. Defaults to 0, which means no limit.
	MaxAttempts int
	// OnExitCode decides whether a task that exited with code is retried. If known is true, retry is
	// the decision. If known is false, OnExit decides. May be nil.
	OnExitCode func(code int) (retry, known bool)
}

// Validate returns an error if MaxAttempts is negative.
func (o RetryOptions) Validate() error {
	return optcheck.Join("stages.RetryOptions", optcheck.NotNegative("MaxAttempts", o.MaxAttempts))
}

// verdictOf returns the verdict for an outcome. A task with an invalid outcome is released, because
// acknowledging the task would lose it.
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
		if opts.OnExitCode != nil {
			if chosen, known := opts.OnExitCode(o.ExitCode); known {
				retry = chosen
			}
		}
	default: // Interrupted, LeaseLost or invalid
		return pipeline.Release
	}
	if retry {
		return pipeline.Retry
	}
	return pipeline.Ack
}

// Classify returns the function of a stage that adds a verdict to each result: whether the task is
// acknowledged, retried or released. Add the stage with pipeline.Map.
func Classify(opts RetryOptions) func(pipeline.Result) pipeline.Decision {
	return func(r pipeline.Result) pipeline.Decision {
		d := pipeline.Decision{Delivery: r.Delivery, Outcome: r.Outcome, Verdict: verdictOf(r.Outcome, opts)}
		if d.Verdict == pipeline.Retry && opts.MaxAttempts > 0 && r.Attempt >= opts.MaxAttempts {
			d.Verdict = pipeline.Ack
			d.RetryDeniedReason = fmt.Sprintf("attempt %d: at most %d attempts are allowed", r.Attempt, opts.MaxAttempts)
		}
		return d
	}
}
