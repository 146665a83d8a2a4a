//go:build interop

package interop

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// malformed sends tasks and malformed messages with the queue interface of rms-cloud-tasks. Our
// worker must run the tasks, and report and delete the malformed messages.
func (s *system) malformed(t *testing.T) {
	tasks := []string{
		`("object", {"n": 1})`,
		`("none", None)`,
		`("list", [1, None, "x"])`,
		`("text", "x")`,
		`("surrogate", {"name": "\ud800"})`,
		`{"task_id": "priority", "data": {}, "priority": 5}`,
		`{"task_id": 7, "data": {}}`,
	}
	notTasks := []string{
		`{"task_id": None, "data": None}`,
		`{"data": {}}`,
		`{}`,
		`{"event_type": "task_completed", "task_id": 7.5}`,
		`("infinite", {"n": inf})`,
		`("not a number", {"n": nan})`,
	}
	bothProviders(t, func(t *testing.T, provider string) {
		j := s.newJob(t, provider)
		j.runCtworker("queue", "create")
		send := []string{filepath.Join(j.testdata, "send.py"), provider, j.id}
		if provider == "GCP" {
			send = append(send, j.project)
		}
		write(t, filepath.Join(j.dir, "messages"), strings.Join(slices.Concat(tasks, notTasks), "\n"))
		s.run(t, j.dir, nil, "sh", append([]string{"-c", `exec "$0" "$@" < messages`, j.python}, send...)...)
		j.runCtworker("run", "--idle-timeout", "2", "--num-simultaneous-tasks", "2", "--", "cat")
		events := j.collect()
		wantCounts(t, "events", count(events), map[string]int{"task_completed": len(tasks), "non_fatal_exception": len(notTasks)})
		for _, e := range events {
			if e.Type == "task_completed" && !strings.Contains(string(e.Result), e.TaskID) || e.Type == "non_fatal_exception" && len(e.Message) == 0 {
				t.Errorf("unexpected event: %+v", e)
			}
		}
		j.wantEmpty()
	})
}

// exactlyOnceGCP runs our worker on exactly-once subscriptions that the manager created. It does so
// with and without --exactly-once-queue, because the manager does not export this setting to workers.
func (s *system) exactlyOnceGCP(t *testing.T) {
	for name, flags := range map[string][]string{"with the flag": {"--exactly-once-queue"}, "without": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := s.newJob(t, "GCP", "exactly_once_queue: true")
			j.tasks("text", "raise", "exit", "dict", "text")
			s.run(t, j.dir, nil, j.python, filepath.Join(j.testdata, "load.py"), j.config, j.id+".db", "tasks.json")
			subscriptions := j.subscriptions()
			if len(subscriptions) != 2 {
				t.Fatalf("subscriptions: %v", subscriptions)
			}
			for _, s := range subscriptions {
				if !s.EnableExactlyOnceDelivery {
					t.Errorf("%s does not deliver exactly once", s.Name)
				}
			}
			j.work(append(flags, "--max-num-tasks", "5")...)
			db, events := j.monitor()
			wantCounts(t, "tasks by status", db.Status, map[string]int{"completed": 3, "exception": 1, "exited_without_status": 1})
			wantCounts(t, "events", count(events), map[string]int{"task_completed": 3, "task_exception": 1, "task_exited": 1})
		})
	}
}

// exactlyOnceAWS checks the error of our worker with --exactly-once-queue. The manager creates a
// standard queue although its configuration requests exactly-once delivery. The error must name the
// missing FIFO queue and the setting.
func (s *system) exactlyOnceAWS(t *testing.T) {
	j := s.newJob(t, "AWS", "exactly_once_queue: true")
	j.tasks("text", "text")
	j.load()
	if got := j.names(); !slices.Equal(got, []string{j.id}) {
		t.Fatalf("the manager created the queues %v, want only the task queue", got)
	}
	refused := j.start(t, j.dir, j.env, j.ctworker, "run", "--exactly-once-queue", "--max-num-tasks", "2", "--", "cat")
	refused.wait(1)
	if text := refused.stderr.String(); !strings.Contains(text, j.id+".fifo") || !strings.Contains(text, "--exactly-once-queue") {
		t.Errorf("does not name the queue and the setting:\n%s", text)
	}
	j.work("--max-num-tasks", "2")
	wantCounts(t, "events", count(j.collect()), map[string]int{"task_completed": 2})
	j.wantEmpty()
}
