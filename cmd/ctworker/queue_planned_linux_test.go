package main

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/testutil/sqstest"
)

// A worker or an "events" command that has finished leaves no open request behind. An open request
// could receive a message, which would then be hidden from the next worker.
func TestQueue_PlannedEnd(t *testing.T) { onEach(t, plannedEndCase) }

func plannedEndCase(t *testing.T, j *job) {
	// If a message is hidden, this worker exits before the lease of the message expires, and does not run its
	// task.
	next := []string{"run", "--max-num-tasks", "1", "--idle-timeout", "15", "--keepalive-interval", "0", "--", "true"}
	j.load(1)
	j.do(0, next...)
	j.do(0, "run", "--idle-timeout", "1", "--keepalive-interval", "0", "--", "true") // on an empty queue
	j.load(2)
	j.do(0, next...)
	j.wantTasks(1, 0)
	j.wantEvents(2)
	j.do(0, next...)
	j.wantEmpty()
	j.wantEvents(1)
}

// An outage is logged once after it has lasted for a second, and once at its end.
func TestOutage_IsLoggedOnce(t *testing.T) {
	t.Parallel()
	const outageLine, recoveryLine = `"requests to the provider fail; retrying"`, `"requests to the provider succeed again"`
	q := newOneTask(t)
	var in atomic.Pointer[invocation]
	q.SetFault(func(http.ResponseWriter, string, map[string]any) bool {
		if worker := in.Load(); worker == nil || !strings.Contains(worker.stderr.String(), outageLine) {
			panic(http.ErrAbortHandler) // closes the connection
		}
		return false
	})
	worker := q.run(t, "--no-event-log-to-queue", "--discard-events", "--max-num-tasks", "1", "--", "true")
	in.Store(worker)
	worker.want(0)
	for _, line := range []string{outageLine, recoveryLine, `"level":"warn"`} {
		if n := strings.Count(worker.stderr.String(), line); n != 1 {
			t.Errorf("%d log lines with %s, want 1; stderr:\n%s", n, line, worker.stderr.String())
		}
	}
}

// When a command exits, none of its requests for messages is open. SQS may deliver a message to a
// request whose client has disconnected.
func TestPlannedEnd_LeavesNoOpenRequest(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"run --idle-timeout":    {"run", "--idle-timeout", "1", "--no-event-log-to-queue", "--discard-events", "--", "true"},
		"run --max-num-tasks":   {"run", "--max-num-tasks", "1", "-j", "4", "--no-event-log-to-queue", "--discard-events", "--", "true"},
		"events --idle-timeout": {"events", "--idle-timeout", "1", "--output", "events.jsonl"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := newOneTask(t)
			var open, total atomic.Int32
			q.SetFault(func(w http.ResponseWriter, action string, in map[string]any) bool {
				q.mu.Lock()
				delivered := q.delivered
				q.mu.Unlock()
				if action != "ReceiveMessage" || !delivered {
					return false
				}
				total.Add(1)
				open.Add(1)
				seconds, _ := in["WaitTimeSeconds"].(float64)
				<-time.After(time.Duration(seconds) * time.Second) // even if the client has disconnected
				open.Add(-1)
				sqstest.WriteJSON(w, map[string]any{})
				return true
			})
			in := prepare(t, t.TempDir(), append(args[:1:1], append([]string{"--provider", "AWS", "--job-id", "j"}, args[1:]...)...)...)
			in.cmd.Env = append(in.cmd.Env, "AWS_ENDPOINT_URL="+q.URL, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true")
			in.start().want(0)
			if n := open.Load(); n != 0 {
				t.Errorf("%d of %d requests are open after the command has exited; stderr:\n%s", n, total.Load(), in.stderr.String())
			}
		})
	}
}
