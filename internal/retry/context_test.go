package retry_test

import (
	"testing"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/retry"
)

// ReporterFrom returns the Reporter of the context, which sources and sinks share. If the context
// has none, it returns a new Reporter.
func TestReporterFrom(t *testing.T) {
	t.Parallel()
	r := retry.NewReporter(zerolog.Nop(), "SQS")
	ctx := retry.WithReporter(t.Context(), r)
	if retry.ReporterFrom(ctx, zerolog.Nop(), "SQS") != r {
		t.Error("the context's Reporter is not used")
	}
	if other := retry.ReporterFrom(t.Context(), zerolog.Nop(), "SQS"); other == nil || other == r {
		t.Errorf("ReporterFrom without a shared Reporter returned %v, want a new one", other)
	}
}
