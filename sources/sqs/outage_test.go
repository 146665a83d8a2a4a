package sqs

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/testutil/sqstest"
)

// During an outage, LastFailure returns the current time, because it is unknown whether the queue is
// empty.
func TestLastFailure_DuringAnOutage(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, task)
	s := q.open(t, Options{})
	defer closeNow(t, s)
	if at := s.LastFailure(); !at.IsZero() {
		t.Errorf("LastFailure is %v before any failure", at)
	}
	var away atomic.Bool
	away.Store(true)
	q.SetFault(func(w http.ResponseWriter, _ string, _ map[string]any) bool {
		if away.Load() {
			sqstest.WriteError(w, 503, "ServiceUnavailable", "")
		}
		return away.Load()
	})
	got := make(chan int)
	go func() { got <- len(receive(t, s, 1)) }()
	for s.LastFailure().IsZero() {
		<-time.After(time.Millisecond)
	}
	<-time.After(50 * time.Millisecond)
	asked := time.Now()
	if at := s.LastFailure(); at.Before(asked) {
		t.Errorf("LastFailure is %v old during the outage", asked.Sub(at))
	}
	away.Store(false)
	if <-got != 1 {
		t.Error("Receive returned no task")
	}
	if at := s.LastFailure(); at.IsZero() || time.Since(at) > testTimeout {
		t.Errorf("it could last not be asked at %v", at)
	}
}

// If a receive request is never answered, LastFailure reports this, and the request is canceled and
// sent again.
func TestAReceiveThatIsNeverAnswered(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, task)
	s := q.open(t, Options{Wait: time.Second, receiveTimeout: time.Second, slowAfter: 10 * time.Millisecond})
	defer closeNow(t, s)
	silent := make(chan struct{})
	defer close(silent)
	var first atomic.Bool
	q.SetFault(func(_ http.ResponseWriter, action string, _ map[string]any) bool {
		if action == "ReceiveMessage" && first.CompareAndSwap(false, true) {
			select {
			case <-silent:
			case <-time.After(testTimeout):
			}
			return true
		}
		return false
	})
	got := make(chan int)
	go func() { got <- len(receive(t, s, 1)) }()
	for s.LastFailure().IsZero() {
		<-time.After(time.Millisecond)
	}
	if <-got != 1 {
		t.Error("Receive returned no task")
	}
}
