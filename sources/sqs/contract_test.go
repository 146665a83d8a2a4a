package sqs

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/testutil/sqstest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/sourcetest"
)

func TestContract(t *testing.T) {
	var last atomic.Pointer[fakeQueue]
	sourcetest.Run(t, sourcetest.Harness{
		New: func(t testing.TB, tasks []pipeline.Task) pipeline.Source {
			q := newFakeQueue(t, bodies(tasks)...)
			last.Store(q)
			return q.open(t, Options{Lease: 3 * time.Second, Wait: time.Second})
		},
		NewUnreachable: func(t testing.TB) pipeline.Source {
			q := newFakeQueue(t)
			s := q.open(t, Options{Lease: 3 * time.Second, Wait: time.Second})
			q.SetFault(func(w http.ResponseWriter, _ string, _ map[string]any) bool {
				sqstest.WriteError(w, http.StatusServiceUnavailable, "ServiceUnavailable", "not now")
				return true
			})
			return s
		},
		Delivered: func() int {
			q := last.Load()
			q.mu.Lock()
			defer q.mu.Unlock()
			return q.received
		},
		Parallel:         true,
		IgnoreGoroutines: sqstest.IgnoreConnections(),
		Features: sourcetest.Features{
			Redelivers: true, CountsAttempts: true, ReleaseDelay: time.Second,
			LeaseDuration: 3 * time.Second, DetectsLostLease: true, MaxData: 1 << 20,
		},
	})
}
