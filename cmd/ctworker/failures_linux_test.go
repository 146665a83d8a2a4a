package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/app"
)

// failing returns the arguments of a run with additional flags. Tasks whose number ends with 7 fail with exit
// code 3.
func failing(args ...string) []string {
	return append(append([]string{"run", "--task-file", "tasks.json"}, args...),
		"--", "sh", "-c", `case $1 in *7) echo "no luck today" >&2; exit 3;; esac`, "sh", "{task_id}")
}

// Failed tasks are warnings in the log: all of them in JSON lines, and the first ten in readable text. The
// summary lists them, with the reasons.
func TestFailures_AreLoggedAndSummarized(t *testing.T) {
	t.Parallel()
	in := run(t, 200, app.ExitOK, failing("-j", "2")...)
	log := in.stderr.String()
	if n := strings.Count(log, `"message":"task failed"`); n != 20 || strings.Contains(log, "further failed tasks") {
		t.Errorf("%d failed tasks are logged, want 20\n%s", n, log)
	}
	in.wantError(`"level":"warn","task_id":"t7","attempt":1,"outcome":"exited","reason":"exit code 3: no luck today"`,
		`"failed_tasks":["t7",`, `"failure_reasons":[{"outcome":"exited","reason":"exit code 3: no luck today","task_count":20}]`)
	in = run(t, 200, app.ExitOK, failing("--log-format", "console")...)
	if n := strings.Count(in.stderr.String(), " failed: exit code 3"); n != 10 {
		t.Errorf("%d failed tasks are logged, want 10", n)
	}
	in.wantError("further failed tasks are counted", "failed tasks:\n  t7: exit code 3: no luck today\n", "  and 10 more; the most frequent reasons of all 20:\n         20  exit code 3: no luck today\n", "run the failed tasks again with:\n  ")
	for level, want := range map[string]int{"debug": 20, "warn": 10, "error": 0} {
		in = run(t, 200, app.ExitOK, failing("--log-format", "console", "--log-level", level)...)
		if n := strings.Count(in.stderr.String(), " failed: exit code 3"); n != want {
			t.Errorf("with --log-level %s, %d failed tasks are logged, want %d", level, n, want)
		}
		if strings.Contains(in.stderr.String(), " INF ") != (level == "debug") {
			t.Errorf("with --log-level %s: %s", level, in.stderr.String())
		}
	}
	in = run(t, 1, app.ExitUsage, failing("--verbose", "--log-level", "warn")...)
	in.wantError("--verbose: contradicts --log-level warn; remove one of these flags")
}

func TestFailures_AllTheSame(t *testing.T) {
	t.Parallel()
	in := run(t, 30, app.ExitOK, "run", "--task-file", "tasks.json", "--", "false")
	in.wantError("every task so far failed in the same way")
	in = run(t, 30, app.ExitOK, failing()...)
	if strings.Contains(in.stderr.String(), "every task so far") {
		t.Error("warning about equal failures, but tasks completed")
	}
}

// After too many failures no task starts, the exit code is 4, and the run can be continued.
func TestMaxFailures(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		flag, value, command string
		atMost               int
		text                 string
	}{
		"count":       {"--max-failures", "3", "false", 3 + 8, "3 tasks failed (--max-failures 3)"},
		"percent":     {"--max-failures", "50%", "false", 20 + 8, "20 of 20 tasks failed (--max-failures 50%)"},
		"consecutive": {"--max-consecutive-failures", "5", "false", 5 + 8, "5 tasks failed one after the other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := run(t, 300, app.ExitFailures, "run", "--task-file", "tasks.json", tc.flag, tc.value, "--", tc.command)
			in.wantError("too many failures: "+tc.text, `"finished":false`, `"failure_limit":"`+tc.text, `"continue_with":"`)
			if n := len(in.byTask()); n > tc.atMost {
				t.Errorf("%d tasks ran", n)
			}
			next := in.shell(strings.Replace(in.field("continue_with"), tc.flag+" "+tc.value, "", 1)).start()
			next.want(app.ExitOK)
			wantOneFinalEach(t, in.dir, 300)
		})
	}
	in := run(t, 100, app.ExitOK, failing("--max-failures", "11%", "--max-consecutive-failures", "2")...)
	if n := len(in.byTask()); n != 100 {
		t.Errorf("%d tasks ran, want 100", n)
	}
}

// A task that fails twice completes at the third attempt. Meanwhile, fresh tasks use the slot.
func TestRetries_FailTwice(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 40)
	in := prepare(t, dir, "run", "--task-file", "tasks.json", "--retries", "3", "--retry-backoff", "0.05", "-j", "1", "--max-num-tasks", "30", "--",
		"sh", "-c", `case $1 in t0|t5) test $CTWORKER_ATTEMPT -eq 3;; t7) exit 75;; esac`, "sh", "{task_id}").start()
	in.want(app.ExitOK)
	attempts := map[string][]string{}
	for _, e := range in.events() {
		attempts[e.TaskID] = append(attempts[e.TaskID], fmt.Sprintf("%d %s %v", e.Attempt, e.Type, e.Retry))
	}
	twice := []string{"1 task_exited true", "2 task_exited true", "3 task_completed false"}
	for _, id := range []string{"t0", "t5"} {
		if got := attempts[id]; !slices.Equal(got, twice) {
			t.Errorf("%s: %v, want %v", id, got, twice)
		}
	}
	if got := attempts["t7"]; len(got) != 4 || !strings.HasSuffix(got[3], "false") {
		t.Errorf("t7: %v, want 4 attempts, of which the last is final", got)
	}
	if len(attempts) != 30 {
		t.Errorf("%d tasks ran, want 30", len(attempts))
	}
	if i := slices.IndexFunc(in.events(), func(e event) bool { return e.TaskID == "t1" }); i != 1 {
		t.Errorf("t1 has event %d, want 1: it does not wait for the retry of t0", i)
	}
	in.wantError(`"task_count":30,"completed":30`, `"retry":7`)
	wantOneFinalEach(t, dir, 30)
}

// A task that fails at each attempt has failed once.
func TestRetries_Exhausted(t *testing.T) {
	t.Parallel()
	in := run(t, 3, app.ExitStrict, "run", "--task-file", "tasks.json", "--strict", "--retries", "2", "--retry-backoff", "0", "--", "sh", "-c", "exit 9")
	in.wantError(`"task_count":3`, `"exited":3`, `"retry":6`)
	if n := len(in.events()); n != 9 {
		t.Errorf("%d events, want 9", n)
	}
	wantOneFinalEach(t, in.dir, 3)
}

func TestRetryOnExitCodes(t *testing.T) {
	t.Parallel()
	in := run(t, 6, app.ExitOK, "run", "--task-file", "tasks.json", "--retries", "1", "--retry-backoff", "0", "--retry-on-exit", "--no-retry-on-exit-codes", "3-4", "--", "sh", "-c", "exit $1", "sh", "{data.n}")
	for id, want := range map[string]int{"t0": 1, "t1": 2, "t2": 2, "t3": 1, "t4": 1, "t5": 2} {
		if got := countOf(in, id); got != want {
			t.Errorf("%s has %d events, want %d", id, got, want)
		}
	}
	in = run(t, 6, app.ExitOK, "run", "--task-file", "tasks.json", "--retries", "1", "--retry-backoff", "0", "--retry-on-exit-codes", "3-4", "--", "sh", "-c", "exit $1", "sh", "{data.n}")
	for id, want := range map[string]int{"t0": 1, "t1": 1, "t2": 1, "t3": 2, "t4": 2, "t5": 1} {
		if got := countOf(in, id); got != want {
			t.Errorf("%s has %d events, want %d", id, got, want)
		}
	}
}

func countOf(in *invocation, id string) (n int) {
	for _, e := range in.events() {
		if e.TaskID == id {
			n++
		}
	}
	return n
}

// If a task of a file requests a retry, and retries are disabled, a warning is logged.
func TestRetries_AdviceWithoutThem(t *testing.T) {
	t.Parallel()
	in := run(t, 5, app.ExitOK, "run", "--task-file", "tasks.json", "--", "sh", "-c", "exit 75")
	if n := strings.Count(in.stderr.String(), "to retry tasks, use --retries N"); n != 1 {
		t.Errorf("%d warnings, want 1\n%s", n, in.stderr.String())
	}
}

// If a run appends events to a log that has events of the same tasks, a warning is logged once. If the tasks
// are different, no warning is logged.
func TestOverlap(t *testing.T) {
	t.Parallel()
	const warning = "the event log has events of an earlier run for the same tasks"
	in := run(t, 5, app.ExitOK, "run", "--task-file", "tasks.json", "--", "true")
	again := prepare(t, in.dir, "run", "--task-file", "tasks.json", "--", "true").start()
	again.want(app.ExitOK)
	if n := strings.Count(again.stderr.String(), warning); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
	write(t, in.dir, "tasks.json", `[{"task_id":"other","data":1}]`)
	for _, args := range [][]string{{"run", "--task-file", "tasks.json"}, {"run", "--task-file", "tasks.json", "--resume"}} {
		other := prepare(t, in.dir, append(args, "--", "true")...).start()
		other.want(app.ExitOK)
		if strings.Contains(other.stderr.String(), warning) {
			t.Errorf("%v: warning although there is no overlap", args)
		}
	}
}

func TestDiscardEvents(t *testing.T) {
	t.Parallel()
	in := run(t, 1, app.ExitUsage, "run", "--task-file", "tasks.json", "--no-event-log-to-file", "--", "true")
	in.wantError("would be written nowhere", "--discard-events")
	run(t, 1, app.ExitOK, "run", "--task-file", "tasks.json", "--no-event-log-to-file", "--discard-events", "--", "true")
}

// A misspelled key of a placeholder ends the run at the first task without the key.
func TestMissingKeys(t *testing.T) {
	t.Parallel()
	in := run(t, 50, app.ExitFatal, "run", "--task-file", "tasks.json", "--", "echo", "{data.m}")
	in.wantError(`task \"t0\": argument \"{data.m}\"`, `the task's data has no \"m\"; its keys are \"big\", \"n\"`, "--allow-missing-keys")
	if n := len(in.byTask()); n != 0 {
		t.Errorf("%d tasks have events", n)
	}
	in = run(t, 50, app.ExitOK, "run", "--task-file", "tasks.json", "--allow-missing-keys", "--", "echo", "{data.m}")
	if n := len(in.byTask()); n != 50 {
		t.Errorf("%d tasks have events, want 50", n)
	}
}
