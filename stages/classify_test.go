package stages_test

import (
	"fmt"
	"testing"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// A task with a permanent exception is never retried, whatever the options are.
func TestDecide_PermanentException(t *testing.T) {
	t.Parallel()
	all := stages.RetryOptions{OnExit: true, OnException: true, OnTimeout: true}
	for kind, want := range map[pipeline.OutcomeKind]pipeline.Verdict{
		pipeline.Exception: pipeline.Ack, pipeline.Exited: pipeline.Retry, pipeline.TimedOut: pipeline.Retry, pipeline.Interrupted: pipeline.Release,
	} {
		if got := stages.Decide(pipeline.Outcome{Kind: kind, Permanent: true}, all); got != want {
			t.Errorf("%v: %v, want %v", kind, got, want)
		}
	}
}

// The table covers the section "Returning a Result" of the specification. It contains each kind of
// outcome, with and without a requested retry. For each of these cases, it contains the verdicts
// for all eight combinations of the retry options.
func TestDecide(t *testing.T) {
	t.Parallel()
	const (
		a = pipeline.Ack
		r = pipeline.Retry
		l = pipeline.Release
	)
	options := []stages.RetryOptions{
		{},
		{OnExit: true},
		{OnException: true},
		{OnTimeout: true},
		{OnExit: true, OnException: true},
		{OnExit: true, OnTimeout: true},
		{OnException: true, OnTimeout: true},
		{OnExit: true, OnException: true, OnTimeout: true},
	}
	for _, tc := range []struct {
		kind           pipeline.OutcomeKind
		retryRequested bool
		want           [8]pipeline.Verdict
		// The verdicts are in the order of the elements of options.
	}{
		{pipeline.Completed, false, [8]pipeline.Verdict{a, a, a, a, a, a, a, a}},
		{pipeline.Completed, true, [8]pipeline.Verdict{r, r, r, r, r, r, r, r}},
		{pipeline.TimedOut, false, [8]pipeline.Verdict{a, a, a, r, a, r, r, r}},
		{pipeline.TimedOut, true, [8]pipeline.Verdict{a, a, a, r, a, r, r, r}},
		{pipeline.Exited, false, [8]pipeline.Verdict{a, r, a, a, r, r, a, r}},
		{pipeline.Exited, true, [8]pipeline.Verdict{a, r, a, a, r, r, a, r}},
		{pipeline.Exception, false, [8]pipeline.Verdict{a, a, r, a, r, a, r, r}},
		{pipeline.Exception, true, [8]pipeline.Verdict{a, a, r, a, r, a, r, r}},
		{pipeline.Interrupted, false, [8]pipeline.Verdict{l, l, l, l, l, l, l, l}},
		{pipeline.Interrupted, true, [8]pipeline.Verdict{l, l, l, l, l, l, l, l}},
		{pipeline.LeaseLost, false, [8]pipeline.Verdict{l, l, l, l, l, l, l, l}},
		{pipeline.LeaseLost, true, [8]pipeline.Verdict{l, l, l, l, l, l, l, l}},
		{0, false, [8]pipeline.Verdict{l, l, l, l, l, l, l, l}},
		{0, true, [8]pipeline.Verdict{l, l, l, l, l, l, l, l}},
		{pipeline.LeaseLost + 1, true, [8]pipeline.Verdict{l, l, l, l, l, l, l, l}},
	} {
		t.Run(fmt.Sprint(tc.kind, " ", tc.retryRequested), func(t *testing.T) {
			t.Parallel()
			outcome := pipeline.Outcome{Kind: tc.kind, RetryRequested: tc.retryRequested, ExitCode: 7, Exception: "x", Result: []byte("1")}
			for i, opts := range options {
				if got := stages.Decide(outcome, opts); got != tc.want[i] {
					t.Errorf("%+v: %v, want %v", opts, got, tc.want[i])
				}
				decision := stages.Classify(opts)(pipeline.Result{Delivery: deliveries(&recorder{}, 1)[0], Outcome: outcome})
				if decision.Verdict != tc.want[i] || decision.Outcome.Kind != tc.kind || decision.Task.ID != "0" {
					t.Errorf("%+v: classified %+v, want %v", opts, decision, tc.want[i])
				}
			}
		})
	}
}
