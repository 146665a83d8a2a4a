package sqs

import (
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/sqstest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/sourcetest"
)

func TestContract(t *testing.T) {
	var last *fakeQueue
	sourcetest.Run(t, sourcetest.Harness{
		New: func(t testing.TB, tasks []pipeline.Task) pipeline.Source {
			last = newFakeQueue(t, bodies(tasks)...)
			return last.open(t, Options{Lease: 2 * time.Second, Wait: time.Second})
		},
		Handed: func() int {
			last.mu.Lock()
			defer last.mu.Unlock()
			return last.received
		},
		IgnoreGoroutines: sqstest.Connections(),
		Features: sourcetest.Features{
			Redelivers: true, CountsAttempts: true, ReleaseDelay: time.Second,
			LeaseDuration: 2 * time.Second, ReportsLost: true, MaxData: 1 << 20,
		},
	})
}
