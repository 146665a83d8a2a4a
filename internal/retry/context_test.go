package retry_test

import (
	"testing"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/retry"
)

// Sources and sinks opened with the same context share its Reporter; without one, each gets a new
// Reporter.
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
