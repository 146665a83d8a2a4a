package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/app"
)

// "ctworker output" shows what the tasks of a run have printed, in plain and compressed logs.
func TestOutput(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"out.jsonl", "out.jsonl.zst"} {
		dir := t.TempDir()
		in := prepare(t, dir, "run", "--output-log", name, "--output-dir-per-task", "out", "--retries", "1", "--retry-backoff", "0",
			"--", "sh", "-c", `echo out $1; echo err $1 >&2; [ $1 != b ]`, "x", "{data.value}", ":::", "a", "b").start()
		in.want(app.ExitOK)
		show := func(code int, want string, args ...string) {
			t.Helper()
			out := prepare(t, dir, append([]string{"output", "--output-log", name}, args...)...).start()
			out.want(code)
			if got := out.stdout.String(); got != want {
				t.Errorf("output %q: %q, want %q", args, got, want)
			}
		}
		show(app.ExitOK, "out a\n", "--stream", "stdout", "a")
		show(app.ExitOK, "err a\n", "--stream", "stderr", "a")
		show(app.ExitOK, "out b\nout b\n", "--stream", "stdout", "b")
		show(app.ExitOK, "err b\n", "--attempt", "2", "--stream", "stderr", "b")
		show(app.ExitOK, "a: out a\nb: out b\n", "--attempt", "1", "--stream", "stdout", "a", "b")
		show(app.ExitFatal, "", "c")
		show(app.ExitUsage, "", "--attempt", "0", "a")
		same := prepare(t, dir, "results", "events.log", "events.log").start()
		same.want(app.ExitFatal)
		same.wantError("the same file is given twice")
		for file, want := range map[string]string{"a/1.stdout": "out a\n", "b/2.stderr": "err b\n"} {
			if got, err := os.ReadFile(filepath.Join(dir, "out", file)); err != nil || string(got) != want {
				t.Errorf("%s: %q, error %v", file, got, err)
			}
		}
	}
}

// The output of a task cannot imitate the output of another task, and cannot damage a terminal.
func TestOutput_Hostile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tasks, err := json.Marshal([]map[string]any{{"task_id": "a\nb: forged\x1b[31m", "data": 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tasks.json"), tasks, 0o600); err != nil {
		t.Fatal(err)
	}
	prepare(t, dir, "run", "--task-file", "tasks.json", "--output-log", "out.jsonl", "--", "printf", `\033]0;title\007x\n`).start().want(app.ExitOK)
	out := prepare(t, dir, "output", "--output-log", "out.jsonl").start()
	out.want(app.ExitOK)
	if got, want := out.stdout.String(), `a\nb: forged\u001b[31m: `+"\x1b]0;title\ax\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Files that the run must not overwrite are refused before a task runs.
func TestOutput_RefusesOtherFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("notes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"notes.txt: the file exists and is not an output log":          {"--output-log", "notes.txt"},
		`--output-log "events.log" is the file of --event-log-file`:    {"--output-log", "events.log"},
		"--output-dir-per-task: mkdir notes.txt: not a directory":      {"--output-dir-per-task", "notes.txt"},
		`--max-output-size "100": below 4096; give 4096 or more`:       {"--max-output-size", "100"},
		"--output-log: open none/out.jsonl: no such file or directory": {"--output-log", "none/out.jsonl"},
	} {
		in := prepare(t, dir, append(append([]string{"run"}, args...), "--", "touch", "ran", ":::", "a")...).start()
		in.want(app.ExitUsage)
		if !strings.Contains(in.stderr.String(), want) {
			t.Errorf("%q: %s\nwant %s", args, in.stderr.String(), want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("a task ran")
	}
}
