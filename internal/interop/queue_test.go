//go:build interop

package interop

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// bothProviders runs a test for each provider.
func bothProviders(t *testing.T, test func(t *testing.T, provider string)) {
	for _, provider := range []string{"AWS", "GCP"} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			test(t, provider)
		})
	}
}

// managerToWorker tests our worker with the manager: the manager loads a queue, our worker runs the
// tasks, and the manager's event monitor reads the events until it knows that each task has ended.
func (s *system) managerToWorker(t *testing.T) {
	bothProviders(t, func(t *testing.T, provider string) {
		j := s.newJob(t, provider)
		n := j.tasks(append(slices.Repeat([]string{"text", "raise", "exit", "dict", "retry"}, 4), "hang", "hang")...)
		j.load()
		// Each task to be retried is received twice.
		j.work("--num-simultaneous-tasks", "4", "--max-runtime", "2", "--max-num-tasks", fmt.Sprint(n+4))
		db, events := j.monitor()
		wantCounts(t, "tasks by status", db.Status, map[string]int{"completed": 12, "exception": 4, "exited_without_status": 4, "timed_out": 2})
		wantCounts(t, "events", count(events), map[string]int{"task_completed": 12, "task_completed retry": 4, "task_exception": 4, "task_exited": 4, "task_timed_out": 2})
		for _, task := range db.Tasks {
			wantTask(t, task)
		}
		j.wantEmpty()
	})
}

// wantTask fails the test unless the database entry of a task matches its event.
func wantTask(t *testing.T, task map[string]any) {
	t.Helper()
	id := fmt.Sprint(task["task_id"])
	do, _, _ := strings.Cut(id, "-")
	want := map[string]any{"result": nil, "exception": nil, "exit_code": nil, "retry": 0.}
	switch do {
	case "text":
		want["result"] = fmt.Sprintf("%q", id+" is done")
	case "retry":
		want["result"] = `"retried"`
	case "dict":
		want["result"] = fmt.Sprintf(`{"task_id": %q, "words": ["\u00e4", "\ud83d\ude00"], "nothing": null}`, id)
	case "exit":
		want["exit_code"] = 3.
	case "raise":
		if exception := fmt.Sprint(task["exception"]); !strings.HasSuffix(strings.TrimSpace(exception), "ValueError: "+id+" raises") {
			t.Errorf("task %s: exception %q", id, exception)
		}
		delete(want, "exception")
	}
	for key, value := range want {
		if task[key] != value {
			t.Errorf("task %s: %s is %v, want %v", id, key, task[key], value)
		}
	}
	if at := fmt.Sprint(task["completed_at"]); !strings.HasSuffix(at, "+00:00") || at < fmt.Sprint(task["enqueued_at"]) {
		t.Errorf("task %s: completed at %s, queued at %v", id, at, task["enqueued_at"])
	}
	if elapsed, _ := task["elapsed_time"].(float64); elapsed <= 0 || task["hostname"] == nil {
		t.Errorf("task %s: %v", id, task)
	}
}

// loadToRMSWorker runs tasks sent by ctworker load with the worker of rms-cloud-tasks, and reads
// the events with ctworker events.
func (s *system) loadToRMSWorker(t *testing.T) {
	bothProviders(t, func(t *testing.T, provider string) {
		j := s.newJob(t, provider)
		n := j.tasks("text", "raise", "exit")
		j.runCtworker("load", "--task-file", "tasks.json", "--create")
		j.runCtworker("queue", "create")

		// The worker of rms-cloud-tasks runs one task at a time here. While a slot is free, that
		// worker waits for tasks from Pub/Sub for up to a minute before it acknowledges any, so
		// with more slots it would run some tasks again.
		rmsWorker := j.start(t, j.dir, j.env, j.python, filepath.Join(j.testdata, "worker.py"), "--num-simultaneous-tasks", "1")
		follow := j.command(t, j.dir, j.env, j.ctworker, "events")
		ended := 0
		for line := range follow.lines() {
			if strings.Contains(line, `"task_id"`) {
				ended++
			}
			if ended == n {
				break
			}
		}
		rmsWorker.stop(syscall.SIGTERM, 0)
		all := append(parse(t, follow.stop(syscall.SIGINT, 0)), j.collect()...)
		want := map[string]int{"task_completed": 1, "task_exception": 1, "task_exited": 1}
		if provider == "AWS" {
			// In this release of rms-cloud-tasks, the worker acknowledges a task with a key that the
			// SQS queue does not set. The worker therefore reports an error for each task, and the
			// task stays in the queue.
			want["non_fatal_exception"] = n
		}
		wantCounts(t, "events", count(all), want)
		for _, e := range all {
			switch e.Type {
			case "task_completed":
				if string(e.Result) != `"text-0 is done"` {
					t.Errorf("result %s", e.Result)
				}
			case "task_exited":
				if e.ExitCode != 3 {
					t.Errorf("exit code %d", e.ExitCode)
				}
			}
		}
	})
}

// messages compares what both systems put into an SQS queue for the same tasks.
func (s *system) messages(t *testing.T) {
	rms, ours := s.newJob(t, "AWS"), s.newJob(t, "AWS")
	rms.tasks("a", "b", "c")
	rms.load()
	ours.tasks("a", "b", "c")
	ours.runCtworker("load", "--task-file", "tasks.json", "--create")
	got, want := ours.attributes(), rms.attributes()
	if len(want) != 3 || !slices.Equal(got, want) {
		t.Errorf("ctworker load sent %q, want %q as load_queue sent", got, want)
	}
}

// queueCommands runs the queue commands of each system on the queues created by the other.
func (s *system) queueCommands(t *testing.T) {
	bothProviders(t, func(t *testing.T, provider string) {
		t.Run("ctworker", func(t *testing.T) {
			t.Parallel()
			j := s.newJob(t, provider)
			j.tasks("a", "b", "c", "d", "e")
			j.runCtworker("queue", "create")
			j.runCtworker("load", "--task-file", "tasks.json")
			names := j.names()
			// On GCP, the manager counts the messages that it receives, which may not be all messages.
			if out := j.manage("show_queue"); !strings.Contains(out, "Queue depth: 5\n") && provider == "AWS" || strings.Contains(out, "empty") {
				t.Errorf("show_queue printed:\n%s", out)
			}
			j.manage("purge_queue", "--force")
			if got := j.names(); !slices.Equal(got, names) {
				t.Errorf("purge_queue left %v of %v", got, names)
			}
			j.wantEmpty()
			j.manage("delete_queue", "--force")
			if got := j.names(); len(got) != 0 {
				t.Errorf("delete_queue left %v", got)
			}
			j.start(t, j.dir, j.env, j.ctworker, "queue", "status").wait(1)
		})
		t.Run("rms-cloud-tasks", func(t *testing.T) {
			t.Parallel()
			j := s.newJob(t, provider)
			j.tasks("a", "b", "c", "d", "e")
			j.load()
			if provider == "AWS" { // on AWS, the manager creates the event queue only when it gets the first event
				j.runCtworker("queue", "create", "--events")
			}
			other := s.newJob(t, provider)
			other.runCtworker("queue", "create")
			if got, want := strings.Join(j.names(), " "), strings.ReplaceAll(strings.Join(other.names(), " "), other.id, j.id); got != want {
				t.Errorf("the queues of rms-cloud-tasks are %s, want %s", got, want)
			}
			j.runCtworker("queue", "create") // the queues exist already, with the right configuration
			if out := j.runCtworker("queue", "status"); provider == "AWS" && !strings.Contains(out, " 5 ") {
				t.Errorf("queue status printed:\n%s", out)
			}
			j.runCtworker("queue", "purge", "--yes")
			j.wantEmpty()
			j.runCtworker("queue", "delete", "--yes")
			j.runCtworker("queue", "delete", "--events", "--yes")
			if got := j.names(); len(got) != 0 {
				t.Errorf("queue delete left %v", got)
			}
		})
	})
}
