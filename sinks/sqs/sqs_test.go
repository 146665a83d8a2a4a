package sqs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/testutil/sqstest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/sinktest"
)

// fakeQueue is a queue of a fake server.
type fakeQueue struct {
	*sqstest.Fake
	limit   int  // the maximum message size that the queue reports
	missing bool // the queue does not exist yet

	mu     sync.Mutex
	bodies []string
	made   map[string]any // the CreateQueue request that created the queue
}

func newFakeQueue(t testing.TB) *fakeQueue {
	t.Helper()
	q := &fakeQueue{limit: 1 << 20}
	q.Fake = sqstest.NewFake(t, "jobs-events", q.answer)
	return q
}

func (q *fakeQueue) open(t testing.TB) (*Sink, error) {
	t.Helper()
	return open(t.Context(), q.Client(t), Options{Queue: "jobs-events"})
}

func (q *fakeQueue) mustOpen(t testing.TB) *Sink {
	t.Helper()
	s, err := q.open(t)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (q *fakeQueue) answer(w http.ResponseWriter, _ *http.Request, action string, in map[string]any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case action == "GetQueueUrl" && q.missing:
		sqstest.WriteError(w, http.StatusBadRequest, "QueueDoesNotExist", "The specified queue does not exist.")
	case action == "GetQueueUrl":
		sqstest.WriteJSON(w, map[string]any{"QueueUrl": q.QueueURL})
	case action == "CreateQueue":
		q.made, q.missing = in, false
		sqstest.WriteJSON(w, map[string]any{"QueueUrl": q.QueueURL})
	case action == "GetQueueAttributes":
		sqstest.WriteJSON(w, map[string]any{"Attributes": map[string]string{"MaximumMessageSize": fmt.Sprint(q.limit)}})
	case action == "SendMessageBatch":
		sqstest.WriteJSON(w, q.take(in))
	}
}

// take stores the messages of a batch, and returns the response that SQS would send.
func (q *fakeQueue) take(in map[string]any) any {
	var done, failed []map[string]any
	sum := 0
	entries, _ := in["Entries"].([]any)
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		body, _ := entry["MessageBody"].(string)
		if sum += len(body); len(body) > q.limit || strings.ContainsAny(body, "\ufffe\uffff\x00\x01") {
			failed = append(failed, map[string]any{"Id": entry["Id"], "Code": "InvalidMessageContents", "SenderFault": true})
			continue
		}
		q.bodies = append(q.bodies, body)
		done = append(done, map[string]any{"Id": entry["Id"]})
	}
	if sum > 1<<20 || len(entries) > 10 {
		panic("a batch that is too large")
	}
	return map[string]any{"Successful": done, "Failed": failed}
}

func (q *fakeQueue) read() (all [][]byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range q.bodies {
		all = append(all, []byte(b))
	}
	return all
}

func TestContract(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{
		New: func(t testing.TB) (pipeline.Sink, func() [][]byte) {
			q := newFakeQueue(t)
			return q.mustOpen(t), q.read
		},
		NewStalled: func(t testing.TB) pipeline.Sink {
			q := newFakeQueue(t)
			s := q.mustOpen(t)
			q.SetFault(func(w http.ResponseWriter, _ string, _ map[string]any) bool {
				sqstest.WriteError(w, http.StatusServiceUnavailable, "ServiceUnavailable", "not now")
				return true
			})
			return s
		},
		IgnoreGoroutines: sqstest.IgnoreConnections(),
		Features:         sinktest.Features{MaxEvent: 900_000},
	})
}

func completed(id string, result []byte) pipeline.Event {
	return pipeline.Event{
		Time: time.Unix(1, 0), Hostname: "h", Type: pipeline.TaskCompleted, TaskID: id, Attempt: 1,
		Outcome: pipeline.Outcome{Kind: pipeline.Completed, Result: result},
	}
}

func write(t *testing.T, s *Sink, events ...pipeline.Event) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return s.Write(ctx, events)
}

func closeNow(t *testing.T, s *Sink) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// An event that exceeds the message size limit of the queue is sent with its longest text
// truncated.
func TestWrite_TruncatesLargeEvents(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t)
	q.limit = 4096
	s := q.mustOpen(t)
	defer closeNow(t, s)
	long := strings.Repeat("é\"\x01", 5000)
	result, _ := json.Marshal(map[string]string{"text": long})
	failed := completed("b", nil)
	failed.Type, failed.Outcome = pipeline.TaskException, pipeline.Outcome{Kind: pipeline.Exception, Exception: long}
	raw := completed("c", nil)
	raw.Outcome.RawResult = []byte(long)
	if err := write(t, s, completed("a", result), failed, raw, completed("d", []byte(`"short"`))); err != nil {
		t.Fatal(err)
	}
	got := map[string]map[string]any{}
	for _, body := range q.read() {
		var e map[string]any
		if err := json.Unmarshal(body, &e); err != nil || len(body) > q.limit {
			t.Fatalf("%d bytes, %v", len(body), err)
		}
		id, _ := e["task_id"].(string)
		got[id] = e
	}
	text, _ := got["a"]["result"].(string)
	if got["a"]["result_truncated"] != true || got["a"]["result_bytes"] != float64(len(result)) || !strings.HasPrefix(string(result), text) || len(text) < 500 {
		t.Errorf("a: %v", got["a"])
	}
	text, _ = got["b"]["exception"].(string)
	if got["b"]["exception_truncated"] != true || got["b"]["exception_bytes"] != float64(len(long)) || !strings.HasPrefix(long, text) || len(text) < 200 {
		t.Errorf("b: %v", got["b"])
	}
	if got["c"]["result"] != "" || got["c"]["result_truncated"] != true || got["c"]["result_bytes"] != float64(len(long)) {
		t.Errorf("c: %v", got["c"])
	}
	if got["d"]["result"] != "short" || got["d"]["result_truncated"] != nil {
		t.Errorf("d: %v", got["d"])
	}
	if err := write(t, s, completed(strings.Repeat("x", 5000), []byte(long))); err != nil {
		t.Fatal(err)
	}
	var odd map[string]any
	if err := json.Unmarshal(q.read()[4], &odd); err != nil || odd["task_id_truncated"] != true || odd["task_id_bytes"] != 5000.0 || odd["result_truncated"] != true {
		t.Errorf("a task_id that is too long: %v, %v", odd, err)
	}
	fatal := pipeline.Event{Time: time.Now(), Type: pipeline.FatalException, Exception: long, StackTrace: long + long}
	if err := write(t, s, fatal); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(q.read()[5], &odd); err != nil || odd["stack_trace_truncated"] != true || odd["exception_truncated"] != true {
		t.Errorf("a fatal exception: %v, %v", odd, err)
	}
}

// A malformed message is reported completely, in as many events as needed.
func TestWrite_SplitsALargeMalformedMessage(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]string{
		"short":      "no JSON",
		"long":       strings.Repeat("0123456789", 2000),
		"quotes":     strings.Repeat(`"`, 3000),
		"characters": strings.Repeat("\U0001f600", 1500),
		"no text":    strings.Repeat("\xff\x00", 3000),
	} {
		q := newFakeQueue(t)
		q.limit = 1024
		s := q.mustOpen(t)
		if err := write(t, s, pipeline.NewMalformedEvent(message, errors.New("no task"), "here", time.Now())); err != nil {
			t.Fatal(err)
		}
		pieces := map[int][]byte{}
		bodies := q.read()
		for i, body := range bodies {
			var e struct {
				Type     string `json:"event_type"`
				Message  string
				Raw      []byte `json:"message_base64"`
				Part     int    `json:"message_part"`
				Parts    int    `json:"message_parts"`
				Bytes    int    `json:"message_bytes"`
				Reason   string `json:"exception"`
				Trace    string `json:"stack_trace"`
				TaskID   string `json:"task_id"`
				Hostname string
			}
			if err := json.Unmarshal(body, &e); err != nil || len(body) > q.limit || e.Type != "non_fatal_exception" || e.Reason != "no task" || e.Trace == "" {
				t.Errorf("%s: %d bytes, %+v, %v", name, len(body), e, err)
			}
			if len(bodies) > 1 && (e.Part < 1 || e.Part > len(bodies) || e.Parts != len(bodies) || e.Bytes != len(message)) {
				t.Errorf("%s: event %d of %d: %+v", name, i, len(bodies), e)
			}
			pieces[e.Part] = append([]byte(e.Message), e.Raw...)
		}
		whole := pieces[0] // the message, if it was not split
		for i := range len(bodies) {
			whole = append(whole, pieces[i+1]...)
		}
		if string(whole) != message {
			t.Errorf("%s: %d of %d bytes arrived, in %d events", name, len(whole), len(message), len(bodies))
		}
		closeNow(t, s)
	}
}

// If a response of a FIFO queue is lost, the event is sent again with the same deduplication id, which
// consists of the task_id, the attempt and the event type.
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t)
	q.QueueURL += ".fifo"
	var sent []map[string]any
	q.SetFault(func(_ http.ResponseWriter, action string, in map[string]any) bool {
		entries, _ := in["Entries"].([]any)
		for _, e := range entries {
			entry, _ := e.(map[string]any)
			sent = append(sent, entry)
		}
		return false
	})
	s := q.mustOpen(t)
	defer closeNow(t, s)
	again := completed("a", nil)
	again.Attempt = 2
	odd := completed("with a space "+strings.Repeat("x", 200), nil)
	for _, e := range []pipeline.Event{completed("a", nil), completed("a", nil), again, odd, {Time: time.Now(), Hostname: "here", Type: pipeline.KeepAlive}} {
		if err := write(t, s, e); err != nil {
			t.Fatal(err)
		}
	}
	keys := map[any]int{}
	for i, entry := range sent {
		key, _ := entry["MessageDeduplicationId"].(string)
		group, _ := entry["MessageGroupId"].(string)
		if key == "" || len(key) > 128 || group == "" || len(group) > 128 || strings.Contains(group, " ") || i < 3 && group != "a" {
			t.Errorf("event %d: group %q, key %q", i, group, key)
		}
		keys[key]++
	}
	if len(keys) != 4 || len(sent) != 5 {
		t.Errorf("%v", keys)
	}
}

// Characters that XML 1.0 does not allow are escaped, and the received event is equal to the sent
// event.
func TestCharactersThatSQSDoesNotTake(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t)
	s := q.mustOpen(t)
	defer closeNow(t, s)
	odd := "\ufffe \uffff \x00 \x1f \u007f \u0085 \U0001f600 \xff"
	if err := write(t, s, completed(odd, []byte(`"`+"\ufffe"+`"`))); err != nil {
		t.Fatal(err)
	}
	var e struct {
		TaskID string `json:"task_id"`
		Result string
	}
	if err := json.Unmarshal(q.read()[0], &e); err != nil || e.Result != "\ufffe" || e.TaskID != strings.ToValidUTF8(odd, "\ufffd") {
		t.Errorf("%q %q %v", e.TaskID, e.Result, err)
	}
}

// Write waits while SQS is unreachable, and then sends each event once.
func TestWrite_WaitsWhileSQSIsUnreachable(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(w http.ResponseWriter, in map[string]any){
		"throttled": func(w http.ResponseWriter, _ map[string]any) {
			sqstest.WriteError(w, 400, "RequestThrottled", "Rate exceeded")
		},
		"cut off": func(http.ResponseWriter, map[string]any) { panic(http.ErrAbortHandler) },
		"partly": func(w http.ResponseWriter, _ map[string]any) {
			_, _ = w.Write([]byte(`{"Successful":[],"Failed":[{"Id":"0","Code":"InternalError","SenderFault":false}]}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := newFakeQueue(t)
			s := q.mustOpen(t)
			defer closeNow(t, s)
			failed := false
			q.SetFault(func(w http.ResponseWriter, _ string, in map[string]any) bool {
				if failed {
					return false
				}
				failed = true
				fault(w, in)
				return true
			})
			if err := write(t, s, completed("a", nil), completed("b", nil)); err != nil {
				t.Fatal(err)
			}
			if n := len(q.read()); n != 2 || !failed {
				t.Errorf("%d events", n)
			}
		})
	}
}

func TestWrite_ExplainsPermanentErrors(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t)
	s := q.mustOpen(t)
	defer closeNow(t, s)
	q.SetFault(func(w http.ResponseWriter, _ string, _ map[string]any) bool {
		sqstest.WriteError(w, 400, "AccessDeniedException", "no")
		return true
	})
	if err := write(t, s, completed("a", nil)); err == nil || !strings.Contains(err.Error(), "sqs:SendMessage") || !strings.Contains(err.Error(), "jobs-events") {
		t.Errorf("%v", err)
	}
	if _, err := q.open(t); err == nil || !strings.Contains(err.Error(), "sqs:GetQueueUrl") {
		t.Errorf("%v", err)
	}
	if _, err := Open(t.Context(), Options{}); err == nil {
		t.Error("a queue without a name was opened")
	}
}

func TestTheQueueIsCreated(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t)
	q.missing = true
	s := q.mustOpen(t)
	defer closeNow(t, s)
	attributes, _ := q.made["Attributes"].(map[string]any)
	if q.made["QueueName"] != "jobs-events" || attributes["MessageRetentionPeriod"] != "1209600" {
		t.Errorf("created with %v", q.made)
	}
	if err := write(t, s, completed("a", nil)); err != nil {
		t.Error(err)
	}
}

func TestManyEventsGoInBatches(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t)
	s := q.mustOpen(t)
	defer closeNow(t, s)
	var events []pipeline.Event
	for i := range 256 {
		events = append(events, completed(fmt.Sprint(i), []byte(`"`+strings.Repeat("x", 1000*(i%3))+`"`)))
	}
	if err := write(t, s, events...); err != nil {
		t.Fatal(err)
	}
	if n, r := len(q.read()), q.Count("SendMessageBatch"); n != 256 || r > 27 {
		t.Errorf("%d events in %d requests", n, r)
	}
	closeNow(t, s)
	if err := write(t, s, events[0]); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}
