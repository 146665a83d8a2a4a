package main

import (
	"os"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/app"
)

// If a task starts ctworker, this inner ctworker ignores the settings of the run that the task
// belongs to. It uses the environment variables that the task itself has set.
func TestRunInsideATask(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const inner = asCommand + `=1 "$0" run --task-file tasks.json --event-log-file "inner-$1" -- true 2> "inner-$1.err" && wc -l < "inner-$1"`
	for _, c := range []struct {
		name  string
		flags []string
		env   []string
		want  string // number of events of the inner run
	}{
		{"flags", []string{"--tasks-to-skip", "1", "--max-num-tasks", "1"}, nil, "3"},
		{"variables", []string{"--tasks-to-skip", "1"}, []string{"RMS_CLOUD_TASKS_MAX_NUM_TASKS=1", "RMS_CLOUD_TASKS_INSTANCE_IS_SPOT=True"}, "3"},
		{"without an event log", []string{"--max-num-tasks", "1", "--no-event-log-to-file", "--discard-events"}, nil, "3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"run", "--task-file", "tasks.json", "--event-log-file", "outer"}, c.flags...)
			in := prepare(t, withTasks(t, 3), append(args, "--", "sh", "-c", inner+` > result-$1`, self, "{task_id}")...)
			in.cmd.Env = append(in.cmd.Env, c.env...)
			in.start().want(app.ExitOK)
			results := readAll(t, in.dir, "result-")
			if len(results) != 1 || strings.TrimSpace(results[0]) != c.want {
				t.Errorf("the inner runs wrote %q events, want %s; %s", results, c.want, readAll(t, in.dir, "inner-"))
			}
		})
	}
	t.Run("set by the task", func(t *testing.T) {
		t.Parallel()
		in := prepare(t, withTasks(t, 3), "run", "--task-file", "tasks.json", "--event-log-file", "outer", "--max-num-tasks", "1", "--",
			"sh", "-c", `export RMS_CLOUD_TASKS_MAX_NUM_TASKS=2; `+inner+` > result-$1`, self, "{task_id}")
		in.start().want(app.ExitOK)
		if results := readAll(t, in.dir, "result-"); len(results) != 1 || strings.TrimSpace(results[0]) != "2" {
			t.Errorf("the inner run wrote %q events, want 2", results)
		}
	})
	t.Run("reuse", func(t *testing.T) {
		t.Parallel()
		in := prepare(t, withTasks(t, 3), "run", "--isolation", "reuse", "--task-file", "tasks.json", "--event-log-file", "outer", "--max-num-tasks", "1", "--",
			"sh", "-c", shellWorker, self, strings.ReplaceAll(inner, "$1", "0")+` > result-0`)
		in.start().want(app.ExitOK)
		if results := readAll(t, in.dir, "result-"); len(results) != 1 || strings.TrimSpace(results[0]) != "3" {
			t.Errorf("the inner run wrote %q events, want 3; %s", results, readAll(t, in.dir, "inner-"))
		}
	})
}

// readAll returns the contents of the files with this prefix.
func readAll(t *testing.T, dir, prefix string) (contents []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			b, err := os.ReadFile(dir + "/" + e.Name())
			if err != nil {
				t.Fatal(err)
			}
			contents = append(contents, string(b))
		}
	}
	return contents
}
