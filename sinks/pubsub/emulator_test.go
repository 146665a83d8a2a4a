package pubsub

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"github.com/ctworker/ctworker/internal/testutil/pubsubtest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/sinktest"
)

// TestContractOnTheEmulator runs the contract suite of sinks on the emulator.
func TestContractOnTheEmulator(t *testing.T) {
	address := pubsubtest.Start(t)
	sinktest.Run(t, sinktest.Harness{
		New: func(t testing.TB) (pipeline.Sink, func() [][]byte) {
			project := "p-" + strings.ToLower(rand.Text())
			s, err := Open(t.Context(), Options{Queue: "jobs-events", Project: project, ClientOptions: pubsubtest.ClientOptions(address)})
			if err != nil {
				t.Fatal(err)
			}
			var all [][]byte
			return s, func() [][]byte {
				c := pubsubtest.NewClient(t, address, project)
				defer c.Close()
				all = append(all, pullAll(t, c)...)
				return all
			}
		},
		Timeout:          20 * time.Second,
		IgnoreGoroutines: pubsubtest.IgnoreGoroutines(),
		Features:         sinktest.Features{MaxEvent: 3_900_000},
	})
}

// pullAll pulls messages until the subscription is empty.
func pullAll(t testing.TB, c *pubsubtest.Client) (all [][]byte) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		out, err := c.Subscriptions.Pull(ctx, &pubsubpb.PullRequest{Subscription: c.Subscription("jobs-events"), MaxMessages: 1000})
		ended := ctx.Err() != nil
		cancel()
		if err != nil && !ended {
			t.Fatal(err)
		}
		if len(out.GetReceivedMessages()) == 0 {
			return all
		}
		for _, m := range out.GetReceivedMessages() {
			all = append(all, m.GetMessage().GetData())
		}
	}
}
