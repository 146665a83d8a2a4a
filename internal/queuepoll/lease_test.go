package queuepoll_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/internal/boottime"
	"github.com/ctworker/ctworker/internal/queuepoll"
)

// If a message arrives at the end of the wait, most of its lease remains.
func TestMaxWait(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ wait, lease, want time.Duration }{
		{20 * time.Second, 60 * time.Second, 20 * time.Second},
		{20 * time.Second, 59 * time.Second, 19 * time.Second},
		{20 * time.Second, 10 * time.Second, 3 * time.Second},
		{20 * time.Second, 4 * time.Second, time.Second},
		{20 * time.Second, time.Second, time.Second}, // no request waits for less
		{3 * time.Second, 600 * time.Second, 3 * time.Second},
	} {
		if got := queuepoll.MaxWait(tc.wait, tc.lease); got != tc.want {
			t.Errorf("wait %v, lease %v: got %v, want %v", tc.wait, tc.lease, got, tc.want)
		}
	}
}

// A lease is counted from the request, even if the answer arrives late.
func TestExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sent := boottime.Now()
		want := time.Now().Add(time.Minute)
		<-time.After(90 * time.Second) // the bubble's clock
		if got := queuepoll.ExpiresAt(sent, time.Minute); got.Sub(want).Abs() > time.Second {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
