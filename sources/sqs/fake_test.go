package sqs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ctworker/ctworker/pipeline"
)

// fakeQueue is a server that speaks SQS's JSON 1.0 protocol for one queue, for the
// faults that no real one shows at will. What the real one does is moto's to show.
type fakeQueue struct {
	url string

	mu       sync.Mutex
	messages []*message
	changed  chan struct{} // closed when there may be something to receive
	requests map[string]int
	received int
	fault    func(w http.ResponseWriter, action string, in map[string]any) (done bool)
}

type message struct {
	body    string
	count   int
	visible time.Time
	deleted bool
}

func newFakeQueue(t testing.TB, bodies ...string) *fakeQueue {
	t.Helper()
	q := &fakeQueue{changed: make(chan struct{}), requests: map[string]int{}}
	for _, b := range bodies {
		q.messages = append(q.messages, &message{body: b})
	}
	server := httptest.NewServer(q)
	t.Cleanup(func() {
		server.CloseClientConnections() // a long poll may be under way
		server.Close()
	})
	q.url = server.URL
	return q
}

// open returns a source of the queue.
func (q *fakeQueue) open(t testing.TB, opts Options) *Source {
	t.Helper()
	opts.Queue = "jobs"
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	s, err := open(t.Context(), sqs.New(sqs.Options{
		Region: "us-east-1", BaseEndpoint: &q.url, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
		Retryer:     aws.NopRetryer{}, // what is tried again is to be seen here
	}), opts)
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

func (q *fakeQueue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	q.mu.Lock()
	q.requests[action]++
	fault := q.fault
	q.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if fault != nil && fault(w, action, in) {
		return
	}
	var out any
	switch action {
	case "GetQueueUrl":
		out = map[string]any{"QueueUrl": q.url + "/123456789012/jobs"}
	case "ReceiveMessage":
		out = q.receive(r, in)
	case "DeleteMessageBatch", "ChangeMessageVisibilityBatch":
		out = q.change(in)
	default:
		refuse(w, http.StatusBadRequest, "InvalidAction", action)
		return
	}
	_ = json.NewEncoder(w).Encode(out)
}

// refuse answers with an error as SQS does.
func refuse(w http.ResponseWriter, status int, code, text string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": "com.amazonaws.sqs#" + code, "message": text})
}

func number(v any) int { f, _ := v.(float64); return int(f) }

// receive waits as a long poll does.
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

// change deletes messages, or changes when they can be received again. A handle is
// good for the last receive alone.
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

// left is how many messages have not been deleted, and how many of them are visible.
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

func (q *fakeQueue) setFault(f func(w http.ResponseWriter, action string, in map[string]any) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fault = f
}

func (q *fakeQueue) count(action string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.requests[action]
}
