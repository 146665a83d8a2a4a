package pubsub

import (
	"context"
	"testing"
	"time"
)

// A lease is counted from the pull request, because a process that was stopped in the meantime cannot
// know the age of the response.
func TestLeaseIsCountedFromThePull(t *testing.T) {
	t.Parallel()
	const lease, delay = 2 * time.Second, 500 * time.Millisecond
	srv := newServer(t, nil, task)
	s := srv.open(t, Options{Lease: lease})
	defer closeNow(t, s)
	srv.setFault(func(_ context.Context, method string, _ any) (bool, error) {
		if method == "Pull" {
			<-time.After(delay)
		}
		return false, nil
	})
	if d := receive(t, s, 1)[0]; d.Plumbing().RemainingLease() > lease-delay {
		t.Errorf("the lease is taken to last for another %v", d.Plumbing().RemainingLease())
	}
}
