package sqs

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/boottime"
	"github.com/ctworker/ctworker/internal/sqsapi"
	"github.com/ctworker/ctworker/internal/testutil/sqstest"
	"github.com/ctworker/ctworker/pipeline"
)

const task = `{"task_id": "a", "data": {"n": 1}}`

const testTimeout = 20 * time.Second

func receive(t *testing.T, s *Source, limit int) []*pipeline.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	ds, err := s.Receive(ctx, limit)
	if err != nil {
		t.Fatalf("Receive: %v", err)
	}
	return ds
}

func closeNow(t *testing.T, s *Source) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// firstTimes makes end handle the first n requests of an action.
func firstTimes(q *fakeQueue, action string, n int32, end func(w http.ResponseWriter)) {
	var seen atomic.Int32
	q.SetFault(func(w http.ResponseWriter, a string, _ map[string]any) bool {
		if a != action || seen.Add(1) > n {
			return false
		}
		end(w)
		return true
	})
}

// A request that fails with a transient error is sent again.
func TestReceive_RetriesTransientErrors(t *testing.T) {
	t.Parallel()
	ends := map[string]func(w http.ResponseWriter){
		"throttled":  func(w http.ResponseWriter) { sqstest.WriteError(w, 400, "RequestThrottled", "Rate exceeded") },
		"over limit": func(w http.ResponseWriter) { sqstest.WriteError(w, 403, "OverLimit", "Too many messages in flight") },
		"503":        func(w http.ResponseWriter) { sqstest.WriteError(w, 503, "ServiceUnavailable", "") },
		"no JSON":    func(w http.ResponseWriter) { http.Error(w, "<html>bad gateway</html>", http.StatusBadGateway) },
		"cut off":    func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"408":        func(w http.ResponseWriter) { http.Error(w, "request timeout", http.StatusRequestTimeout) },
		"425":        func(w http.ResponseWriter) { sqstest.WriteError(w, http.StatusTooEarly, "TooEarly", "") },
		"namespace":  func(w http.ResponseWriter) { sqstest.WriteError(w, 400, "a#com.amazonaws.sqs#RequestThrottled", "") },
		"refused":    func(w http.ResponseWriter) { sqstest.WriteError(w, 403, "ExpiredToken", "expired for a moment") },
		"damaged": func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(`{"Successful": [{}], "Failed": [{}], "Messages": [}`))
		},
	}
	for _, action := range []string{"ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"} {
		for name, end := range ends {
			t.Run(action+" "+name, func(t *testing.T) {
				t.Parallel()
				q := newFakeQueue(t, task)
				s := q.open(t, Options{})
				defer closeNow(t, s)
				firstTimes(q, action, 1, end)
				d := receive(t, s, 1)[0]
				if until, err := d.Extend(t.Context(), time.Minute); err != nil || time.Until(until) < 50*time.Second {
					t.Errorf("Extend: until %v, %v", until, err)
				}
				if err := d.Ack(t.Context()); err != nil {
					t.Errorf("Ack: %v", err)
				}
				if all, _ := q.left(); all != 0 || q.Count(action) != 2 {
					t.Errorf("%d messages left after %d requests", all, q.Count(action))
				}
			})
		}
	}
}

// If the answer to a delete is lost, the request is sent again, although SQS has deleted the message.
// The second request succeeds too.
func TestLostAnswerToADelete(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, task)
	s := q.open(t, Options{})
	defer closeNow(t, s)
	var lost atomic.Bool
	q.SetFault(func(_ http.ResponseWriter, action string, in map[string]any) bool {
		if action == "DeleteMessageBatch" && lost.CompareAndSwap(false, true) {
			q.change(in)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	if err := receive(t, s, 1)[0].Ack(t.Context()); err != nil || !lost.Load() {
		t.Errorf("Ack: %v", err)
	}
}

// Each entry of a batch has its own result.
func TestPartialFailure(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, task, task, task)
	s := q.open(t, Options{Linger: 50 * time.Millisecond})
	defer closeNow(t, s)
	var ds []*pipeline.Delivery
	for len(ds) < 3 {
		ds = append(ds, receive(t, s, 3-len(ds))...)
	}
	q.mu.Lock()
	q.messages[1].count++ // another consumer has received it
	q.mu.Unlock()
	errs := make(chan error, 3)
	for _, d := range ds {
		go func() { errs <- d.Ack(t.Context()) }()
	}
	lost := 0
	for range ds {
		switch err := <-errs; {
		case errors.Is(err, pipeline.ErrLeaseLost):
			lost++
		case err != nil:
			t.Error(err)
		}
	}
	if all, _ := q.left(); lost != 1 || all != 1 || q.Count("DeleteMessageBatch") != 1 {
		t.Errorf("%d lost, %d left, %d requests", lost, all, q.Count("DeleteMessageBatch"))
	}
}

// If the response to a batch contains no result for an entry, the entry is sent again.
func TestAck_RepeatsAnEntryWithoutResult(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, task)
	s := q.open(t, Options{})
	defer closeNow(t, s)
	firstTimes(q, "DeleteMessageBatch", 1, func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"Successful":[],"Failed":[]}`)) })
	if err := receive(t, s, 1)[0].Ack(t.Context()); err != nil {
		t.Error(err)
	}
	if all, _ := q.left(); all != 0 {
		t.Error("it has not been deleted")
	}
}

// Receive returns a permanent error with a message that explains the error, and sends no further
// requests.
func TestReceive_ExplainsPermanentErrors(t *testing.T) {
	t.Parallel()
	for code, words := range map[string][]string{
		"QueueDoesNotExist":         {`queue "jobs" does not exist`, "--queue-name", "--region"},
		"AccessDeniedException":     {"sqs:ReceiveMessage", `"jobs"`, "IAM"},
		"InvalidClientTokenId":      {"credentials", "renew"},
		"ExpiredToken":              {"credentials", "renew"},
		"InvalidAttributeName":      {"ReceiveMessage", `"jobs"`},
		"KMS.AccessDeniedException": {"IAM"},
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			q := newFakeQueue(t, task)
			s := q.open(t, Options{suspectTime: time.Nanosecond})
			defer closeNow(t, s)
			firstTimes(q, "ReceiveMessage", 1000, func(w http.ResponseWriter) { sqstest.WriteError(w, 400, code, "no") })
			for range 2 {
				_, err := s.Receive(t.Context(), 10)
				if err == nil {
					t.Fatal("no error")
				}
				for _, word := range words {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("%q is not in: %v", word, err)
					}
				}
			}
			if n := q.Count("ReceiveMessage"); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// A permanent error of Extend or Ack wraps ErrPermanent, which ends the run. If the run continued,
// every task would run repeatedly.
func TestSettle_ReturnsErrPermanent(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, task)
	s := q.open(t, Options{})
	defer closeNow(t, s)
	d := receive(t, s, 1)[0]
	q.SetFault(func(w http.ResponseWriter, action string, _ map[string]any) bool {
		sqstest.WriteError(w, http.StatusForbidden, "AccessDeniedException", action)
		return true
	})
	if _, err := d.Extend(t.Context(), time.Minute); !errors.Is(err, pipeline.ErrPermanent) || !strings.Contains(err.Error(), "sqs:ChangeMessageVisibility") {
		t.Errorf("Extend: %v", err)
	}
	if err := d.Ack(t.Context()); !errors.Is(err, pipeline.ErrPermanent) || !strings.Contains(err.Error(), "sqs:DeleteMessage") {
		t.Errorf("Ack: %v", err)
	}
}

// A malformed message is reported unchanged, and deleted afterwards.
func TestMalformed(t *testing.T) {
	t.Parallel()
	bad := []string{`no JSON`, `{"data": {}}`, `{"task_id": 5.5, "data": {}}`, `{"task_id": "", "data": {}}`, `{"task_id": "x"}`, `[]`, `{"task_id": "x", "data": {}} {}`, `{"Task_ID": "x", "data": {}}`}
	q := newFakeQueue(t, append(bad, task)...)
	var mu sync.Mutex
	reported := map[string]error{}
	s := q.open(t, Options{OnMalformed: func(_ context.Context, body string, reason error) error {
		if !q.has(body) {
			t.Errorf("%s was deleted before it was reported", body)
		}
		mu.Lock()
		defer mu.Unlock()
		reported[body] = reason
		return nil
	}})
	ds := receive(t, s, 10)
	if len(ds) != 1 || ds[0].Task.ID != "a" || string(ds[0].Task.Data) != `{"n": 1}` {
		t.Errorf("received %v", ds)
	}
	closeNow(t, s)
	for _, body := range bad {
		if reported[body] == nil {
			t.Errorf("%s was not reported", body)
		}
	}
	if all, _ := q.left(); all != 1 {
		t.Errorf("%d are left", all)
	}
}

// While OnMalformed blocks, Receive returns the tasks that the source has received, and the source
// receives no further messages. No message is lost.
func TestMalformed_WhileOnMalformedBlocks(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, task, `no JSON`, `no JSON`)
	s := q.open(t, Options{Lease: 2 * time.Second, OnMalformed: func(ctx context.Context, _ string, _ error) error {
		<-ctx.Done()
		return ctx.Err()
	}})
	defer closeNow(t, s)
	ds := receive(t, s, 10)
	if len(ds) != 1 {
		t.Fatalf("received %v", ds)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if ds, err := s.Receive(ctx, 10); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Receive: %v, %v", ds, err)
	}
	if all, _ := q.left(); all != 3 || q.Count("ReceiveMessage") > 2 {
		t.Errorf("%d left after %d receives", all, q.Count("ReceiveMessage"))
	}
}

// With Options.Raw the source returns each message unchanged, even if it is malformed.
func TestRaw(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, `no JSON`)
	s := q.open(t, Options{Raw: true})
	defer closeNow(t, s)
	ds := receive(t, s, 10)
	if len(ds) != 1 || string(ds[0].Task.Data) != "no JSON" || ds[0].Task.ID != "0" {
		t.Fatalf("received %v", ds)
	}
	if err := ds[0].Ack(t.Context()); err != nil {
		t.Error(err)
	}
	if all, _ := q.left(); all != 0 {
		t.Error("it has not been deleted")
	}
}

// If the response to a receive from a FIFO queue is lost, the retry has the same receive request
// attempt id.
func TestLostAnswerToAReceiveOfAFIFOQueue(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, task)
	q.QueueURL += ".fifo"
	s := q.open(t, Options{})
	defer closeNow(t, s)
	var ids []any
	q.SetFault(func(_ http.ResponseWriter, action string, in map[string]any) bool {
		if action != "ReceiveMessage" {
			return false
		}
		if ids = append(ids, in["ReceiveRequestAttemptId"]); len(ids) == 1 {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	receive(t, s, 1)
	if len(ids) != 2 || ids[0] == nil || ids[0] != ids[1] {
		t.Errorf("%v", ids)
	}
}

// If OnMalformed returns an error, Receive returns this error, and the message remains in the queue.
func TestMalformed_RemainsInTheQueueIfOnMalformedFails(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, `no JSON`)
	s := q.open(t, Options{OnMalformed: func(context.Context, string, error) error { return errors.New("disk full") }})
	defer closeNow(t, s)
	if _, err := s.Receive(t.Context(), 10); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("Receive: %v", err)
	}
	if all, visible := q.left(); all != 1 || visible != 1 {
		t.Errorf("%d left, %d visible", all, visible)
	}
}

// If a long poll is open when the shutdown begins, the messages that it receives are released
// immediately, so that other workers can receive them.
func TestALatePollIsReleased(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t)
	s := q.open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	received := make(chan error)
	go func() {
		_, err := s.Receive(ctx, 10)
		received <- err
	}()
	for q.Count("ReceiveMessage") == 0 {
		<-time.After(time.Millisecond)
	}
	cancel()
	began := time.Now()
	// The server answers only after maxWait.
	if err := <-received; !errors.Is(err, context.Canceled) || time.Since(began) > maxWait/2 {
		t.Errorf("Receive: %v after %v", err, time.Since(began))
	}
	q.mu.Lock()
	q.messages = append(q.messages, &message{body: task})
	close(q.changed)
	q.changed = make(chan struct{})
	q.mu.Unlock()
	for q.Count("ChangeMessageVisibilityBatch") == 0 {
		<-time.After(time.Millisecond)
	}
	closeNow(t, s)
	if all, visible := q.left(); all != 1 || visible != 1 {
		t.Errorf("%d left, %d visible", all, visible)
	}
	if took := time.Since(began); took > maxWait/2 {
		t.Errorf("it took %v", took)
	}
}

// A lease cannot be extended beyond 12 hours after the message was received.
func TestTheCap(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, task)
	s := q.open(t, Options{})
	defer closeNow(t, s)
	receive(t, s, 1)
	asked := make(chan int, 1)
	q.SetFault(func(_ http.ResponseWriter, action string, in map[string]any) bool {
		if entries, ok := in["Entries"].([]any); ok && action == "ChangeMessageVisibilityBatch" {
			entry, _ := entries[0].(map[string]any)
			asked <- number(entry["VisibilityTimeout"])
		}
		return false
	})
	l := &lease{s: s, handle: "0#1", sent: boottime.Now().Add(-sqsapi.MaxHold + time.Minute)}
	until, err := l.Extend(t.Context(), time.Minute)
	if got := <-asked; err != nil || got < 25 || got > 30 || time.Until(until) > 30*time.Second {
		t.Errorf("asked for %d s, until %v: %v", got, until, err)
	}
	l.sent = l.sent.Add(-time.Minute)
	if _, err := l.Extend(t.Context(), time.Minute); !errors.Is(err, pipeline.ErrLeaseLost) {
		t.Errorf("beyond the cap: %v", err)
	}
}

// Many messages are received and deleted with few requests of ten messages each.
func TestBatches(t *testing.T) {
	t.Parallel()
	const n = 500
	all := make([]string, n)
	for i := range all {
		all[i] = task
	}
	q := newFakeQueue(t, all...)
	s := q.open(t, Options{})
	defer closeNow(t, s)
	errs := make(chan error, n)
	for got := 0; got < n; {
		ds := receive(t, s, min(100, n-got))
		got += len(ds)
		for _, d := range ds {
			go func() { errs <- d.Ack(t.Context()) }()
		}
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if r := q.Count("ReceiveMessage"); r > n/10+9 {
		t.Errorf("%d receives", r)
	}
	if left, _ := q.left(); left != 0 {
		t.Errorf("%d are left", left)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), Options{Lease: 13 * time.Hour, Wait: time.Minute})
	for _, words := range []string{"Queue is empty", "13h0m0s", "12h0m0s", "20s"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q is not in: %v", words, err)
		}
	}
}

// On a slow network, Close waits longer for the answer to an open request.
func TestALateAnswerOfASlowNetwork(t *testing.T) {
	t.Parallel()
	q := newFakeQueue(t, task)
	s := q.open(t, Options{})
	q.SetFault(func(http.ResponseWriter, string, map[string]any) bool {
		<-time.After(600 * time.Millisecond)
		return false
	})
	d := receive(t, s, 1)[0]
	if err := d.Release(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	before := q.Count("ReceiveMessage")
	received := make(chan struct{})
	go func() {
		defer close(received)
		_, _ = s.Receive(ctx, 10)
	}()
	for q.Count("ReceiveMessage") == before { // until the request is open
		<-time.After(time.Millisecond)
	}
	cancel()
	<-received
	closeNow(t, s)
	if all, visible := q.left(); all != 1 || visible != 1 {
		t.Errorf("%d left, %d visible", all, visible)
	}
}
