//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// exampleDir is the folder of the example programs in the source distribution.
const exampleDir = "examples/parallel_addition"

// examples runs the unchanged example programs with tasks from files and a function.
func (s *system) examples(t *testing.T) {
	file := filepath.Join(s.source, exampleDir, "addition_tasks.json")
	for name, tc := range map[string]struct {
		program string
		env     []string
		args    []string
		want    map[string]int
		check   func(e event) bool
	}{
		"addition": {
			program: "worker_addition.py", args: []string{"--task-file", file, "--max-num-tasks", "1000"},
			want: map[string]int{"task_completed": 1000},
		},
		"last tasks": {
			program: "worker_addition.py", args: []string{"--task-file", file, "--tasks-to-skip", "9900"},
			want: map[string]int{"task_completed": 100},
		},
		"exceptions": {
			program: "worker_addition_exceptions.py", args: []string{"--task-file", file, "--max-num-tasks", "50"},
			env: []string{"ADDITION_EXCEPTION_PROBABILITY=1"}, want: map[string]int{"task_exception": 50},
			check: func(e event) bool { return strings.Contains(e.Exception, "ZeroDivisionError") },
		},
		"retried exceptions": { // tasks of a file are never run again
			program: "worker_addition_exceptions.py", args: []string{"--task-file", file, "--max-num-tasks", "50", "--retry-on-exception"},
			env: []string{"ADDITION_EXCEPTION_PROBABILITY=1"}, want: map[string]int{"task_exception retry": 50},
			check: func(e event) bool { return e.Retry },
		},
		"exits": {
			program: "worker_addition_exceptions.py", args: []string{"--task-file", file, "--max-num-tasks", "50"},
			env: []string{"ADDITION_EXIT_PROBABILITY=1"}, want: map[string]int{"task_exited": 50},
			check: func(e event) bool { return e.ExitCode == 2 },
		},
		"timeouts": {
			program: "worker_addition_exceptions.py", args: []string{"--task-file", file, "--max-num-tasks", "4", "--num-simultaneous-tasks", "4", "--max-runtime", "1"},
			env: []string{"ADDITION_TIMEOUT_PROBABILITY=1"}, want: map[string]int{"task_timed_out": 4},
		},
		"factory": {
			program: "worker_addition_factory.py",
			env:     []string{"ADDITION_MAX_TASKS=300"}, want: map[string]int{"task_completed": 300},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			args := append([]string{"-m", "ctworker", filepath.Join(s.source, exampleDir, tc.program), "--num-simultaneous-tasks", "2"}, tc.args...)
			s.run(t, dir, tc.env, s.python, args...)
			events := parse(t, read(t, filepath.Join(dir, "events.log")))
			wantCounts(t, "events", count(events), tc.want)
			seen := map[string]bool{}
			for _, e := range events {
				if seen[e.TaskID] {
					t.Errorf("task %s has two events", e.TaskID)
				}
				seen[e.TaskID] = true
				if tc.check != nil && !tc.check(e) {
					t.Errorf("unexpected event: %+v", e)
				}
			}
			wantResults(t, dir, events)
		})
	}
	t.Run("mixed", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s.run(t, dir, []string{"ADDITION_EXCEPTION_PROBABILITY=0.3", "ADDITION_EXIT_PROBABILITY=0.3"}, s.python, "-m", "ctworker",
			filepath.Join(s.source, exampleDir, "worker_addition_exceptions.py"), "--task-file", file, "--max-num-tasks", "200", "--num-simultaneous-tasks", "2")
		events := parse(t, read(t, filepath.Join(dir, "events.log")))
		n := count(events)
		if n["task_completed"]+n["task_exception"]+n["task_exited"] != 200 || len(events) != 200 {
			t.Errorf("%d events: %v, want 200 in all", len(events), n)
		}
		wantResults(t, dir, events)
	})
	t.Run("generated tasks", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s.run(t, dir, nil, s.python, filepath.Join(s.source, exampleDir, "generate_addition_tasks.py"))
		s.run(t, dir, nil, s.python, "-m", "ctworker", filepath.Join(s.source, exampleDir, "worker_addition.py"), "--task-file", "addition_tasks.json", "--tasks-to-skip", "9990")
		wantCounts(t, "events", count(parse(t, read(t, filepath.Join(dir, "events.log")))), map[string]int{"task_completed": 10})
	})
}

// wantResults fails the test unless each completed task, and no other, has written its file
// with the right sum.
func wantResults(t *testing.T, dir string, events []event) {
	t.Helper()
	completed := 0
	for _, e := range events {
		if e.Type != "task_completed" {
			continue
		}
		completed++
		var path string
		if err := json.Unmarshal(e.Result, &path); err != nil {
			t.Fatal(err)
		}
		text := read(t, filepath.Join(dir, path))
		var a, b, sum int
		_, line, _ := strings.Cut(text, "Task "+e.TaskID+": ")
		if _, err := fmt.Sscanf(line, "%d + %d = %d", &a, &b, &sum); err != nil || a+b != sum {
			t.Errorf("task %s wrote %q", e.TaskID, text)
		}
	}
	files, err := os.ReadDir(filepath.Join(dir, "results"))
	if err != nil && completed > 0 {
		t.Fatal(err)
	}
	if len(files) != completed {
		t.Errorf("%d files of results, want %d", len(files), completed)
	}
}

// exampleJob runs the complete job of the example with its own configuration: the manager
// loads and monitors it, and our worker runs it.
func (s *system) exampleJob(t *testing.T) {
	j := s.newJob(t, "GCP")
	j.id, j.config = "parallel-addition-job", filepath.Join(s.source, exampleDir, "config.yml")
	j.env = []string{"RMS_CLOUD_TASKS_PROVIDER=GCP", "RMS_CLOUD_TASKS_JOB_ID=" + j.id, "RMS_CLOUD_TASKS_PROJECT_ID=" + j.project}
	j.manage("load_queue", "--project-id", j.project, "--task-file", filepath.Join(s.source, exampleDir, "addition_tasks.json"), "--start-task", "100", "--limit", "200")
	s.run(t, j.dir, j.env, s.python, "-m", "ctworker", filepath.Join(s.source, exampleDir, "worker_addition.py"), "--num-simultaneous-tasks", "2", "--max-num-tasks", "200")
	db, events := j.monitor("--project-id", j.project)
	wantCounts(t, "tasks by status", db.Status, map[string]int{"completed": 200})
	wantCounts(t, "events in the database", db.Events, map[string]int{"task_completed": 200})
	wantResults(t, j.dir, events)
}
