package pubsubtest

import "go.uber.org/goleak"

// IgnoreGoroutines returns goleak options that ignore goroutines which outlive the code under test:
// the goroutines of the servers that a test has started, and of the test's own clients.
func IgnoreGoroutines() (all []goleak.Option) {
	for _, f := range []string{
		"github.com/ctworker/ctworker/internal/testutil/pubsubtest.(*server).startEmulator.func2",
		"cloud.google.com/go/pubsub/v2/pstest.(*subscription).start.func1", "google.golang.org/grpc.(*Server).Serve",
		"google.golang.org/grpc.(*Server).handleRawConn", "google.golang.org/grpc.(*Server).serveStreams",
		"google.golang.org/grpc/internal/transport.(*http2Server).keepalive", "google.golang.org/grpc/internal/transport.NewServerTransport.func2",
	} {
		all = append(all, goleak.IgnoreAnyFunction(f))
	}
	return append(all, goleak.IgnoreCurrent())
}
