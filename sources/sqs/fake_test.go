package sqs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/testutil/sqstest"
	"github.com/ctworker/ctworker/pipeline"
)

// fakeQueue is a queue of a fake server.
type fakeQueue struct {
	*sqstest.Fake

	mu       sync.Mutex
	messages []*message
	changed  chan struct{} // closed when the queue may contain messages to receive
	received int
}

type message struct {
	body    string
	count   int
	visible time.Time
	deleted bool
}

func newFakeQueue(t testing.TB, bodies ...string) *fakeQueue {
	t.Helper()
	q := &fakeQueue{changed: make(chan struct{})}
	for _, b := range bodies {
		q.messages = append(q.messages, &message{body: b})
	}
	q.Fake = sqstest.NewFake(t, "jobs", q.answer)
	return q
}

// open returns a source of the queue.
func (q *fakeQueue) open(t testing.TB, opts Options) *Source {
	t.Helper()
	opts.Queue = "jobs"
	opts = opts.withDefaults()
	if err := opts.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), q.Client(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func bodies(tasks []pipeline.Task) (all []string) {
	for _, task := range tasks {
		id, _ := json.Marshal(task.ID)
		all = append(all, fmt.Sprintf(`{"task_id": %s, "data": %s}`, id, task.Data))
	}
	return all
}

func (q *fakeQueue) answer(w http.ResponseWriter, r *http.Request, action string, in map[string]any) {
	switch action {
	case "GetQueueUrl":
		sqstest.WriteJSON(w, map[string]any{"QueueUrl": q.QueueURL})
	case "ReceiveMessage":
		sqstest.WriteJSON(w, q.receive(r, in))
	case "DeleteMessageBatch", "ChangeMessageVisibilityBatch":
		sqstest.WriteJSON(w, q.change(in))
	default:
		sqstest.WriteError(w, http.StatusBadRequest, "InvalidAction", action)
	}
}

func number(v any) int { f, _ := v.(float64); return int(f) }

// receive handles a ReceiveMessage request, which waits for messages.
func (q *fakeQueue) receive(r *http.Request, in map[string]any) any {
	deadline := time.NewTimer(time.Duration(number(in["WaitTimeSeconds"])) * time.Second)
	defer deadline.Stop()
	for {
		q.mu.Lock()
		var found []map[string]any
		next := time.Hour
		now := time.Now()
		for i, m := range q.messages {
			switch {
			case m.deleted || len(found) == number(in["MaxNumberOfMessages"]):
			case m.visible.After(now):
				next = min(next, m.visible.Sub(now))
			default:
				m.count++
				m.visible = now.Add(time.Duration(number(in["VisibilityTimeout"])) * time.Second)
				found = append(found, map[string]any{
					"MessageId": fmt.Sprint(i), "ReceiptHandle": fmt.Sprintf("%d#%d", i, m.count), "Body": m.body,
					"Attributes": map[string]string{"ApproximateReceiveCount": fmt.Sprint(m.count)},
				})
			}
		}
		q.received += len(found)
		changed := q.changed
		q.mu.Unlock()
		if len(found) > 0 {
			return map[string]any{"Messages": found}
		}
		soon := time.NewTimer(next)
		select {
		case <-changed:
		case <-soon.C:
		case <-deadline.C:
			soon.Stop()
			return map[string]any{}
		case <-r.Context().Done():
			soon.Stop()
			return map[string]any{}
		}
		soon.Stop()
	}
}

// change deletes messages, or changes when they can be received again. A receipt handle is valid
// only until the next receive of its message.
func (q *fakeQueue) change(in map[string]any) any {
	q.mu.Lock()
	defer q.mu.Unlock()
	done, failed := []map[string]any{}, []map[string]any{}
	entries, _ := in["Entries"].([]any)
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		var i, count int
		_, _ = fmt.Sscanf(fmt.Sprint(entry["ReceiptHandle"]), "%d#%d", &i, &count)
		m := q.messages[i]
		if m.count != count {
			failed = append(failed, map[string]any{"Id": entry["Id"], "Code": "ReceiptHandleIsInvalid", "SenderFault": true, "Message": "The receipt handle has expired"})
			continue
		}
		if after, ok := entry["VisibilityTimeout"]; ok {
			m.visible = time.Now().Add(time.Duration(number(after)) * time.Second)
		} else {
			m.deleted = true
		}
		done = append(done, map[string]any{"Id": entry["Id"]})
	}
	close(q.changed)
	q.changed = make(chan struct{})
	return map[string]any{"Successful": done, "Failed": failed}
}

// has reports whether a message with this body has not been deleted.
func (q *fakeQueue) has(body string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range q.messages {
		if m.body == body && !m.deleted {
			return true
		}
	}
	return false
}

// left returns the number of messages that have not been deleted, and the number of these messages
// that are visible.
func (q *fakeQueue) left() (all, visible int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range q.messages {
		if !m.deleted {
			all++
			if !m.visible.After(time.Now()) {
				visible++
			}
		}
	}
	return all, visible
}
