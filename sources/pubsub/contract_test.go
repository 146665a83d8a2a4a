package pubsub

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ctworker/ctworker/internal/testutil/pubsubtest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	var last atomic.Pointer[server]
	sourcetest.Run(t, sourcetest.Harness{
		New: func(t testing.TB, tasks []pipeline.Task) pipeline.Source {
			s := newServer(t, countsAttempts, bodies(tasks)...)
			last.Store(s)
			return s.open(t, Options{Lease: 3 * time.Second, Wait: time.Second})
		},
		NewUnreachable: func(t testing.TB) pipeline.Source {
			s := newServer(t, countsAttempts)
			src := s.open(t, Options{Lease: 3 * time.Second, Wait: time.Second})
			s.setFault(func(context.Context, string, any) (bool, error) {
				return true, status.Error(codes.Unavailable, "not now")
			})
			return src
		},
		Delivered: func() int {
			s := last.Load()
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.given)
		},
		Parallel:         true,
		IgnoreGoroutines: pubsubtest.IgnoreGoroutines(),
		Features: sourcetest.Features{
			Redelivers: true, CountsAttempts: true, ReleaseDelay: time.Second,
			LeaseDuration: 3 * time.Second, MaxData: 1 << 20,
		},
	})
}
