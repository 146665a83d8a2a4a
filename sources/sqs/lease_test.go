package sqs

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/testutil/sqstest"
)

// If a response arrives after the lease duration, for example because the process was stopped, another
// worker may already have received the message. The lease on the message is therefore treated as
// expired.
func TestAnswerOlderThanTheLease(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	q := newFakeQueue(t, task)
	s := q.open(t, Options{Lease: lease})
	defer closeNow(t, s)
	var once sync.Once
	q.SetFault(func(w http.ResponseWriter, action string, in map[string]any) bool {
		handled := false
		if action == "ReceiveMessage" {
			once.Do(func() {
				handled = true
				out := map[string]any{"Messages": []map[string]any{{
					"MessageId": "0", "ReceiptHandle": "0#0", "Body": task, "Attributes": map[string]string{"ApproximateReceiveCount": "1"},
				}}}
				<-time.After(lease) // the message is in flight, but the response has not arrived
				sqstest.WriteJSON(w, out)
			})
		}
		return handled
	})
	d := receive(t, s, 1)[0]
	if d.Held() || d.Plumbing().RemainingLease() > 0 {
		t.Errorf("the lease is taken to last for another %v", d.Plumbing().RemainingLease())
	}
}

// A request waits for at most a third of the lease duration.
func TestWaitIsAThirdOfTheLease(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, task)
	asked := make(chan int, 1)
	q.SetFault(func(_ http.ResponseWriter, action string, in map[string]any) bool {
		if action == "ReceiveMessage" {
			select {
			case asked <- number(in["WaitTimeSeconds"]):
			default:
			}
		}
		return false
	})
	s := q.open(t, Options{Lease: 10 * time.Second})
	defer closeNow(t, s)
	receive(t, s, 1)
	if got := <-asked; got != 3 {
		t.Errorf("a request waits for %d s with a lease of 10 s", got)
	}
}
