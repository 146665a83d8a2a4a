package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode"

	"github.com/ctworker/ctworker/internal/app"
)

// A run that was stopped while its last tasks ran is not complete, whether these tasks were killed
// or requested a retry.
func TestResume_StoppedAfterAllTasksHaveStarted(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"killed":           `echo started-$1 >&2; exec sleep 1000`,
		"requests a retry": `trap 'exit 75' TERM; echo started-$1 >&2; sleep 1000 & wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := prepare(t, t.TempDir(), "run", "-j", "2", "--shutdown-grace-period", "0", "--", "sh", "-c", script, "sh", ":::", "a", "b").start()
			in.awaitLog("started-a")
			in.awaitLog("started-b")
			in.signal(syscall.SIGTERM)
			in.want(128 + int(syscall.SIGTERM))
			advice := in.field("continue_with")
			next := prepare(t, in.dir, "run", "--resume", "--dry-run", "--", "true", ":::", "a", "b").start()
			next.want(app.ExitOK)
			next.wantError(`"to_run":2`)
			if !strings.Contains(advice, " run --resume -j 2 ") {
				t.Errorf("advice %q", advice)
			}
		})
	}
}

// If several tasks in a file have the same ID, each of these tasks that failed runs again.
func TestResume_RerunsEachTaskOfAnID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "tasks.jsonl", `{"task_id":"a","data":1}`+"\n"+`{"task_id":"a","data":2}`+"\n")
	prepare(t, dir, "run", "--task-file", "tasks.jsonl", "--", "false").start().want(app.ExitOK)
	again := prepare(t, dir, "run", "--rerun", "failed", "--task-file", "tasks.jsonl", "--", "true").start()
	again.want(app.ExitOK)
	again.wantError(`"completed":2,`)
	prepare(t, dir, "audit", "--task-file", "tasks.jsonl").start().want(app.ExitOK)
}

// Texts of tasks cannot imitate lines of the log or of the summary, and a file that is not an event log is an
// error.
func TestFailures_HostileTexts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "tasks.jsonl", `{"task_id":"a\nERR forged","data":1}`+"\n")
	in := prepare(t, dir, "run", "--log-format", "console", "--task-file", "tasks.jsonl", "--", "false").start()
	in.want(app.ExitOK)
	in.wantError(`task a\nERR forged failed: exit code 1`, `  a\nERR forged: exit code 1`)
	if strings.Contains(in.stderr.String(), "\nERR forged") {
		t.Errorf("a forged line:\n%s", in.stderr.String())
	}
	in = prepare(t, dir, "failed", "tasks.jsonl").start()
	in.want(app.ExitFatal)
	in.wantError("tasks.jsonl: contains no event, so it is not an event log")
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	in = prepare(t, dir, "run", "--resume", "--event-log-file", "fifo", "--task-file", "tasks.jsonl", "--", "true").start()
	in.want(app.ExitFatal)
	in.wantError("fifo is not a regular file, so a run cannot continue from it")
}

// The printed command runs the command of this run, whatever the arguments and the environment of
// the run are. It does not repeat the flag --no-resume.
func TestResume_AdviceIsTheCommandOfTheRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hostile := "\x1b[31m1 it's \\n\n" // printed in a form that a terminal does not interpret
	in := prepare(t, dir, "run", "--no-resume", "--max-failures", "1", "--", "sh", "-c", `test "$1" = "$2"`, "sh", "caf\xe9", ":::", hostile, "b", "c", "d", "e")
	in.cmd.Env = append(in.cmd.Env, "RMS_CLOUD_TASKS_EVENT_LOG_FILE=my events.log")
	in.start().want(app.ExitFailures)
	advice := in.field("continue_with")
	if strings.IndexFunc(advice, unicode.IsControl) >= 0 || strings.Contains(advice, "--no-resume") || !strings.HasPrefix(advice, "RMS_CLOUD_TASKS_EVENT_LOG_FILE='my events.log' ") {
		t.Fatalf("advice %q", advice)
	}
	for range 5 {
		next := prepare(t, dir)
		next.cmd = exec.Command("bash", "-c", advice)
		next.cmd.Dir, next.cmd.Env, next.cmd.Stdout, next.cmd.Stderr = dir, append(next.cmd.Env, asCommand+"=1", "PATH="+os.Getenv("PATH"), "TMPDIR="+t.TempDir()), &next.stdout, &next.stderr
		if next.start().wait() == app.ExitOK {
			break
		}
		advice = next.field("continue_with")
	}
	log, err := os.ReadFile(filepath.Join(dir, "my events.log"))
	if err != nil || bytes.Count(log, []byte("\n")) != 5 {
		t.Fatalf("error %v, log\n%s", err, log)
	}
	prepare(t, dir, "audit", "my events.log", ":::", hostile, "b", "c", "d", "e").start().want(app.ExitOK)
	for command, want := range map[string]string{
		"a run over many inputs":     "because it is long",
		"a run that reads a process": "because it reads /dev/fd/",
	} {
		args := []string{"run", "--", "false", ":::"}
		for i := range 2000 {
			args = append(args, fmt.Sprint(i))
		}
		if strings.Contains(want, "/dev/fd/") {
			args = []string{"run", "--task-file", "/dev/fd/0", "--", "false"}
		} else {
			args = append([]string{"run", "--max-num-tasks", "1"}, args[1:]...)
		}
		in := prepare(t, t.TempDir(), args...)
		in.cmd.Stdin = strings.NewReader(`{"task_id":"a","data":1}`)
		in.start().want(app.ExitOK)
		if got := in.field("rerun_failed_with"); !strings.HasPrefix(got, "the command of this run with --rerun failed (not shown, "+want) {
			t.Errorf("%s: %q", command, got)
		}
	}
}

// --tasks-to-skip counts the tasks of the file, whether they are done or not.
func TestResume_TasksToSkip(t *testing.T) {
	t.Parallel()
	for name, source := range map[string][]string{"values": {":::", "1", "2", "3", "4", "5", "6"}, "lines": {"::::", "list"}} {
		dir := t.TempDir()
		write(t, dir, "list", "1\n2\n3\n4\n5\n6\n")
		run := func(args ...string) *invocation {
			in := prepare(t, dir, slices.Concat([]string{"run"}, args, []string{"--", "true"}, source)...).start()
			in.want(app.ExitOK)
			return in
		}
		run("--tasks-to-skip", "1", "--max-num-tasks", "3") // 2, 3, 4
		again := run("--resume", "--tasks-to-skip", "2")    // of 3 to 6, 5 and 6
		again.wantError(`"total":4,"to_run":2,"done":2,`, `"task_count":2,"completed":2`)
		if got := finals(t, dir); got["1"] != 0 || len(got) != 5 {
			t.Errorf("%s: final events %v", name, got)
		}
	}
}

// A run does not continue from a file that is not a log, and does not append to such a file.
func TestRun_OtherFilesAreNotLogs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "notes.txt", "1\n2\n")
	for want, args := range map[string][]string{
		"--event-log-file notes.txt: the file exists and is not an event log": {"--event-log-file", "notes.txt", "--", "true", ":::", "a"},
		"--joblog notes.txt: the file exists and is not a job log":            {"--joblog", "notes.txt", "--", "true", ":::", "a"},
		"notes.txt: contains no event, so it is not an event log":             {"--resume-from", "notes.txt", "--", "true", ":::", "a"},
		"is the task file":                        {"--joblog", "notes.txt", "--", "true", "::::", "notes.txt"},
		"input file: none: there is no such file": {"--", "true", "::::", "none"},
	} {
		in := prepare(t, dir, append([]string{"run"}, args...)...).start()
		in.want(app.ExitUsage)
		in.wantError(want)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "notes.txt")); err != nil || string(text) != "1\n2\n" {
		t.Errorf("the file is now %q, error %v", text, err)
	}
	audit := prepare(t, dir, "audit", "notes.txt", ":::", "a").start()
	audit.want(app.ExitFatal)
	audit.wantError("notes.txt: contains no event")
}

// --strict also counts the failures of the earlier runs that this run continues.
func TestResume_Strict(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	prepare(t, dir, "run", "--", "false", ":::", "a").start().want(app.ExitOK)
	prepare(t, dir, "run", "--strict", "--resume", "--", "true", ":::", "a", "b").start().want(app.ExitStrict)
	prepare(t, dir, "run", "--strict", "--rerun", "failed", "--", "true", ":::", "a", "b").start().want(app.ExitOK)
}

// Ctrl-C ends a run at once if it waits for inputs.
func TestRun_StopsWhileItWaitsForInputs(t *testing.T) {
	t.Parallel()
	in := prepare(t, t.TempDir(), "run", "--", "sh", "-c", "echo ran >&2", "::::", "-")
	stdin, err := in.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	in.start()
	if _, err := io.WriteString(stdin, "a\n"); err != nil {
		t.Fatal(err)
	}
	in.awaitLog(`"line":"ran"`)
	in.signal(syscall.SIGINT)
	in.want(128 + int(syscall.SIGINT))
	if strings.Contains(in.stderr.String(), `"level":"error"`) {
		t.Errorf("an error:\n%s", in.stderr.String())
	}
}

// If the event log cannot grow any further, the run ends and prints the command that continues it.
// No task is lost, and only tasks without an event run again.
func TestResume_FullDisk(t *testing.T) {
	t.Parallel()
	const n = 60
	dir := withTasks(t, n)
	in := prepare(t, dir)
	script := `head -c 40000 /dev/zero | tr '\0' x; test "$1" != t0 || sleep 0.2` // results of 40 kB; the first task ends last
	in.cmd.Args = []string{"sh", "-c", `ulimit -f 1024; exec "$@"`, "sh", in.cmd.Path, "run", "--task-file", "tasks.json", "-j", "3", "--", "sh", "-c", script, "sh", "{task_id}"}
	in.cmd.Path = "/bin/sh"
	in.start().want(app.ExitFatal)
	in.wantError("file too large", "continue the run with --resume, or with --resume-from events.log if the new events go to another file")
	if done := len(finals(t, dir)); done == 0 || done == n {
		t.Fatalf("%d tasks have an event", done)
	}
	next := in.shell(in.field("continue_with")).start()
	next.want(app.ExitOK)
	wantOneFinalEach(t, dir, n)
}
