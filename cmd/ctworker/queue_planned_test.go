package main

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// A worker, or an events command, that ends as planned leaves no request behind that could
// take a message which nobody then has: whoever comes next gets it at once.
func TestQueuePlannedEnd(t *testing.T) { onEach(t, plannedEndCase) }

func plannedEndCase(t *testing.T, j *job) {
	// A message that is hidden would show: the worker ends before its lease does.
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

// An outage is one line when it has lasted for a second, and one when it is over.
func TestOutageIsLoggedOnce(t *testing.T) {
	t.Parallel()
	const begins, ends = `"requests are failing and being retried"`, `"requests succeed again"`
	q := newOneTask(t)
	var in atomic.Pointer[invocation]
	q.SetFault(func(http.ResponseWriter, string, map[string]any) bool {
		if worker := in.Load(); worker == nil || !strings.Contains(worker.stderr.String(), begins) {
			panic(http.ErrAbortHandler) // which closes the connection
		}
		return false
	})
	worker := q.run(t, "--no-event-log-to-queue", "--max-num-tasks", "1", "--", "true")
	in.Store(worker)
	worker.want(0)
	for _, line := range []string{begins, ends, `"level":"warn"`} {
		if n := strings.Count(worker.stderr.String(), line); n != 1 {
			t.Errorf("%d lines with %s; stderr:\n%s", n, line, worker.stderr.String())
		}
	}
}
