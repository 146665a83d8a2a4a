package pubsub

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serverGoroutines are the server's, which outlives the source.
func serverGoroutines() (all []goleak.Option) {
	for _, f := range []string{
		"cloud.google.com/go/pubsub/v2/pstest.(*subscription).start.func1", "google.golang.org/grpc.(*Server).Serve",
		"google.golang.org/grpc.(*Server).handleRawConn", "google.golang.org/grpc.(*Server).serveStreams",
		"google.golang.org/grpc/internal/transport.(*http2Server).keepalive", "google.golang.org/grpc/internal/transport.NewServerTransport.func2",
	} {
		all = append(all, goleak.IgnoreAnyFunction(f))
	}
	return all
}

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
		IgnoreGoroutines: serverGoroutines(),
		Features: sourcetest.Features{
			Redelivers: true, CountsAttempts: true, ReleaseDelay: time.Second,
			LeaseDuration: 2 * time.Second, MaxData: 1 << 20,
		},
	})
}
