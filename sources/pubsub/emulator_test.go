package pubsub

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"github.com/ctworker/ctworker/internal/testutil/pubsubtest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/sourcetest"
)

// TestContractOnTheEmulator runs the contract suite on the emulator. The subscription has exactly-once
// delivery, because other subscriptions do not report that a lease was lost.
func TestContractOnTheEmulator(t *testing.T) {
	address := pubsubtest.Start(t)
	sourcetest.Run(t, sourcetest.Harness{
		New: func(t testing.TB, tasks []pipeline.Task) pipeline.Source {
			c := pubsubtest.NewClient(t, address, "p-"+strings.ToLower(rand.Text()))
			defer c.Close()
			c.Create("dead", nil)
			c.Create("jobs", func(s *pubsubpb.Subscription) {
				s.EnableExactlyOnceDelivery = true
				s.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{DeadLetterTopic: c.Topic("dead"), MaxDeliveryAttempts: 100}
			})
			c.Publish("jobs", bodies(tasks)...)
			s, err := Open(t.Context(), Options{
				Queue: "jobs", Project: c.Project, ClientOptions: pubsubtest.ClientOptions(address),
				Lease: 6 * time.Second, Wait: 2 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Parallel:         true,
		Timeout:          20 * time.Second,
		IgnoreGoroutines: pubsubtest.IgnoreGoroutines(),
		Features: sourcetest.Features{
			Redelivers: true, CountsAttempts: true, ReleaseDelay: time.Second,
			LeaseDuration: 6 * time.Second, DetectsLostLease: true, MaxData: 1 << 20,
		},
	})
}
