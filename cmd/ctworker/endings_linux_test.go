package main

import (
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/testutil/sqstest"
)

// oneTask is a fake SQS that delivers one task, once.
type oneTask struct {
	*sqstest.Fake
	mu        sync.Mutex
	delivered bool
}

func newOneTask(t *testing.T) *oneTask {
	t.Helper()
	q := &oneTask{}
	q.mu.Lock() // the handler may run before q.Fake is set
	defer q.mu.Unlock()
	q.Fake = sqstest.NewFake(t, "j", func(w http.ResponseWriter, r *http.Request, action string, in map[string]any) {
		switch action {
		case "GetQueueUrl", "CreateQueue":
			q.mu.Lock()
			url := q.QueueURL
			q.mu.Unlock()
			sqstest.WriteJSON(w, map[string]any{"QueueUrl": url})
		case "GetQueueAttributes":
			sqstest.WriteJSON(w, map[string]any{"Attributes": map[string]string{"MaximumMessageSize": "262144"}})
		case "ReceiveMessage":
			q.mu.Lock()
			first := !q.delivered
			q.delivered = true
			q.mu.Unlock()
			if first {
				sqstest.WriteJSON(w, map[string]any{"Messages": []map[string]any{{"MessageId": "m", "ReceiptHandle": "h", "Body": `{"task_id": "t", "data": 1}`, "Attributes": map[string]string{"ApproximateReceiveCount": "1"}}}})
				return
			}
			select {
			case <-r.Context().Done():
			case <-time.After(200 * time.Millisecond):
			}
			sqstest.WriteJSON(w, map[string]any{})
		default:
			var done []map[string]any
			entries, _ := in["Entries"].([]any)
			for _, e := range entries {
				entry, _ := e.(map[string]any)
				done = append(done, map[string]any{"Id": entry["Id"], "MessageId": "m"})
			}
			sqstest.WriteJSON(w, map[string]any{"Successful": done, "Failed": []any{}})
		}
	})
	return q
}

// run starts a worker on the queue.
func (q *oneTask) run(t *testing.T, args ...string) *invocation {
	t.Helper()
	return q.start(t, append([]string{"run", "--event-log-to-file"}, args...)...)
}

// start starts a command on the queue.
func (q *oneTask) start(t *testing.T, args ...string) *invocation {
	t.Helper()
	in := prepare(t, t.TempDir(), append([]string{args[0], "--provider", "AWS", "--job-id", "j"}, args[1:]...)...)
	in.cmd.Env = append(in.cmd.Env, "AWS_ENDPOINT_URL="+q.URL, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true")
	return in.start()
}

// await waits until an action has been requested n times.
func (q *oneTask) await(t *testing.T, action string, n int) {
	t.Helper()
	for q.Count(action) < n {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatalf("%s was not requested", action)
		}
	}
}

// awaitShutdown waits until the worker has handled the first signal.
func (in *invocation) awaitShutdown() {
	in.t.Helper()
	for !strings.Contains(in.stderr.String(), "shutting down") {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-in.t.Context().Done():
			in.t.Fatal("the first signal was not handled")
		}
	}
}

// wantFatal fails the test unless the event log ends with a fatal_exception that contains text.
func (in *invocation) wantFatal(text string) {
	in.t.Helper()
	all := in.events()
	if len(all) == 0 || all[len(all)-1].Type != "fatal_exception" || !strings.Contains(all[len(all)-1].Exception, text) {
		in.t.Errorf("no fatal_exception with %q: %+v", text, all)
	}
}

// If the provider denies the extension of leases, the run fails when a lease expires, and its error contains
// the reason.
func TestLease_DeniedExtensionFailsTheRun(t *testing.T) {
	t.Parallel()
	q := newOneTask(t)
	q.SetFault(func(w http.ResponseWriter, action string, _ map[string]any) bool {
		if action != "ChangeMessageVisibilityBatch" {
			return false
		}
		sqstest.WriteError(w, http.StatusForbidden, "AccessDeniedException", "no")
		return true
	})
	in := q.run(t, "--no-event-log-to-queue", "--lease", "2", "--idle-timeout", "60", "--", "sleep", "30")
	in.want(app.ExitFatal)
	in.wantError("allow sqs:ChangeMessageVisibility", "run failed: stopped fetching tasks")
	in.wantFatal("allow sqs:ChangeMessageVisibility")
}

// If the provider is unreachable for too long, the worker fails, and its error contains the reason.
func TestUnreachableTimeout(t *testing.T) {
	t.Parallel()
	q := newOneTask(t)
	in := q.run(t, "--no-event-log-to-queue", "--unreachable-timeout", "0.5", "--idle-timeout", "600", "--", "true")
	q.await(t, "DeleteMessageBatch", 1)
	q.SetFault(func(http.ResponseWriter, string, map[string]any) bool { panic(http.ErrAbortHandler) })
	in.want(app.ExitFatal)
	in.wantError("could not be reached for 500ms")
	in.wantFatal("could not be reached for 500ms")
}

// A worker that cannot write its events reports that it waits for its events to be written. It does not
// report that it waits for running tasks.
func TestUnreachableTimeout_EventQueue(t *testing.T) {
	t.Parallel()
	q := newOneTask(t)
	unblock := make(chan struct{})
	t.Cleanup(func() { close(unblock) })
	q.SetFault(func(_ http.ResponseWriter, action string, _ map[string]any) bool {
		if action == "SendMessageBatch" {
			<-unblock
		}
		return false
	})
	in := q.run(t, "--event-log-to-queue", "--keepalive-interval", "0", "--unreachable-timeout", "0.5", "--idle-timeout", "600", "--", "true")
	in.awaitLog("no tasks are running: waiting for events to be written")
	in.signal(syscall.SIGTERM) // instead of waiting for the time limit
	in.want(app.ExitFatal)
	in.wantError("the event sink could not be reached for 500ms", `"running":0`, `"message":"run failed: stopped fetching tasks"`, `"events_pending":1`, "shutting down: no tasks are running")
	if strings.Contains(in.stderr.String(), "waiting for running tasks") {
		t.Errorf("standard error reports running tasks:\n%s", in.stderr.String())
	}
}

// The errors of "ctworker events" name a flag of this command, and explain how to continue. They do
// not name a flag of "ctworker run".
func TestEvents_FullDisk(t *testing.T) {
	t.Parallel()
	in := newOneTask(t).start(t, "events", "--output", "/dev/full")
	in.want(app.ExitFatal)
	in.wantError("the disk is full: free some space or use another --output, then start the command again: events that were not written remain in the queue")
	for _, wrong := range []string{"--event-log-file", "run failed", "running tasks"} {
		if strings.Contains(in.stderr.String(), wrong) {
			t.Errorf("standard error contains %q:\n%s", wrong, in.stderr.String())
		}
	}
}

// A second signal ends a run whose results cannot be written. The run does not wait any longer for these
// results.
func TestSignal_SecondWhileEventQueueHangs(t *testing.T) {
	t.Parallel()
	q := newOneTask(t)
	unblock := make(chan struct{})
	t.Cleanup(func() { close(unblock) })
	q.SetFault(func(_ http.ResponseWriter, action string, _ map[string]any) bool {
		if action == "SendMessageBatch" {
			<-unblock
		}
		return false
	})
	in := q.run(t, "--event-log-to-queue", "--keepalive-interval", "0", "--shutdown-grace-period", "1000", "--", "true")
	q.await(t, "SendMessageBatch", 1)
	in.signal(syscall.SIGTERM)
	in.awaitShutdown() // two pending signals would merge into one
	in.signal(syscall.SIGTERM)
	in.want(143)
	in.wantError("shutting down: no tasks are running", "exiting without waiting until events are written and tasks are acknowledged or released")
}

// A worker sends a keep_alive event at its start and at its end.
func TestKeepAlive_AtStartAndEnd(t *testing.T) {
	t.Parallel()
	q := newOneTask(t)
	var mu sync.Mutex
	var sent []string
	q.SetFault(func(_ http.ResponseWriter, action string, in map[string]any) bool {
		entries, _ := in["Entries"].([]any)
		for _, e := range entries {
			entry, _ := e.(map[string]any)
			body, _ := entry["MessageBody"].(string)
			if action == "SendMessageBatch" && strings.Contains(body, "keep_alive") {
				mu.Lock()
				sent = append(sent, body)
				mu.Unlock()
			}
		}
		return false
	})
	q.run(t, "--event-log-to-queue", "--keepalive-interval", "3600", "--idle-timeout", "1", "--", "true").want(app.ExitOK)
	mu.Lock()
	defer mu.Unlock()
	if len(sent) != 2 {
		t.Errorf("%d keep_alive events, want 2: %q", len(sent), sent)
	}
}

// If a result cannot be settled during the shutdown, the run is not finished, and its exit code is
// that of the signal.
func TestSignal_ResultIsNotSettled(t *testing.T) {
	t.Parallel()
	q := newOneTask(t)
	stopping := make(chan struct{})
	t.Cleanup(func() { close(stopping) })
	q.SetFault(func(w http.ResponseWriter, action string, in map[string]any) bool {
		if action != "DeleteMessageBatch" {
			return false
		}
		<-stopping
		entries, _ := in["Entries"].([]any)
		entry, _ := entries[0].(map[string]any)
		sqstest.WriteJSON(w, map[string]any{"Successful": []any{}, "Failed": []map[string]any{{"Id": entry["Id"], "Code": "ReceiptHandleIsInvalid", "SenderFault": true}}})
		return true
	})
	in := q.run(t, "--no-event-log-to-queue", "--shutdown-grace-period", "1000", "--", "true")
	q.await(t, "DeleteMessageBatch", 1)
	in.signal(syscall.SIGTERM)
	in.awaitShutdown()
	stopping <- struct{}{}
	in.want(143)
}

// If a lease expires during the shutdown, the run is not finished, and its exit code is that of the
// signal.
func TestSignal_LeaseExpires(t *testing.T) {
	t.Parallel()
	q := newOneTask(t)
	q.SetFault(func(_ http.ResponseWriter, action string, _ map[string]any) bool {
		if action == "ChangeMessageVisibilityBatch" {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	in := q.run(t, "--no-event-log-to-queue", "--lease", "2", "--shutdown-grace-period", "1000", "--", "sleep", "1000")
	q.await(t, "ChangeMessageVisibilityBatch", 1)
	in.signal(syscall.SIGTERM)
	in.want(143)
}
