package pubsubtest

import (
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestProxy(t *testing.T) {
	t.Parallel()
	pulled := 0
	p := NewProxy(t, Start(t), WithOnPull(func(*pubsubpb.ReceivedMessage) { pulled++ }))
	c := NewClient(t, p.Address, "proxy-test")
	c.Create("jobs", func(s *pubsubpb.Subscription) { s.AckDeadlineSeconds = 10 })
	subscription := c.Subscription("jobs")
	want := func(when string, waiting, held int) {
		t.Helper()
		if d := p.Depth(subscription); d.Visible != waiting || d.InFlight != held {
			t.Errorf("%s: %+v, want %d and %d", when, d, waiting, held)
		}
	}
	c.Publish("jobs", "a", "b", "c", "d")
	want("published", 4, 0)
	var ids []string
	for len(ids) < 4 {
		out, err := c.Subscriptions.Pull(t.Context(), &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range out.GetReceivedMessages() {
			ids = append(ids, m.GetAckId())
		}
	}
	want("pulled", 0, 4)
	if err := c.Subscriptions.Acknowledge(t.Context(), &pubsubpb.AcknowledgeRequest{Subscription: subscription, AckIds: ids[:1]}); err != nil {
		t.Fatal(err)
	}
	want("one acknowledged", 0, 3)
	for i, after := range map[int]int32{1: 0, 2: 1} {
		if err := c.Subscriptions.ModifyAckDeadline(t.Context(), &pubsubpb.ModifyAckDeadlineRequest{Subscription: subscription, AckIds: ids[i : i+1], AckDeadlineSeconds: after}); err != nil {
			t.Fatal(err)
		}
	}
	want("one released, and one held for a second", 1, 2)
	for end := time.Now().Add(20 * time.Second); p.Depth(subscription).InFlight == 2 && time.Now().Before(end); <-time.After(10 * time.Millisecond) {
	}
	want("after a second", 2, 1)
	p.SetUnavailable("Pull", true)
	c.Subscriptions.CallOptions.Pull = nil // no retries
	if _, err := c.Subscriptions.Pull(t.Context(), &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 1}); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	if p.Count("Acknowledge") != 1 || p.Count("ModifyAckDeadline") != 2 || p.Count("Publish") != 4 || pulled != 4 || p.Total() < 9 {
		t.Errorf("%d pulled; %s", pulled, p.Table(4))
	}
}
