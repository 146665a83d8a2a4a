package pubsub

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/internal/pubsubtest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	var last *server
	sourcetest.Run(t, sourcetest.Harness{
		New: func(t testing.TB, tasks []pipeline.Task) pipeline.Source {
			last = newServer(t, countsAttempts, bodies(tasks)...)
			return last.open(t, Options{Lease: 2 * time.Second, Wait: time.Second})
		},
		Handed: func() int {
			last.mu.Lock()
			defer last.mu.Unlock()
			return len(last.given)
		},
		IgnoreGoroutines: pubsubtest.Goroutines(),
		Features: sourcetest.Features{
			Redelivers: true, CountsAttempts: true, ReleaseDelay: time.Second,
			LeaseDuration: 2 * time.Second, MaxData: 1 << 20,
		},
	})
}
