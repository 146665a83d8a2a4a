package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/app"
)

// awaitEvents waits until the event log has n lines, or the process has exited.
func (in *invocation) awaitEvents(n int) {
	in.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		log, _ := os.ReadFile(filepath.Join(in.dir, "events.log"))
		if bytes.Count(log, []byte("\n")) >= n {
			return
		}
		select {
		case <-tick.C:
		case <-in.exited:
			return
		}
	}
}

// shell returns an invocation that runs a printed command in a shell.
func (in *invocation) shell(command string) *invocation {
	in.t.Helper()
	next := prepare(in.t, in.dir)
	next.cmd = exec.Command("/bin/sh", "-c", "exec "+command)
	next.cmd.Dir, next.cmd.Env, next.cmd.WaitDelay = in.dir, in.cmd.Env, in.cmd.WaitDelay
	next.cmd.Stdout, next.cmd.Stderr = &next.stdout, &next.stderr
	return next
}

// finals returns, for each task, the number of its final events in the complete lines of the event
// log. It does not count an event that replaces an earlier event.
func finals(t *testing.T, dir string) map[string]int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(dir, "events.log"))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for line := range bytes.Lines(log) {
		var e struct {
			event
			Rerun bool   `json:"rerun"`
			RunID string `json:"run_id"`
		}
		if json.Unmarshal(line, &e) != nil || e.TaskID == "" || e.Retry {
			continue
		}
		if e.RunID == "" {
			t.Errorf("an event without run_id: %s", line)
		}
		if !e.Rerun {
			count[e.TaskID]++
		}
	}
	return count
}

func wantOneFinalEach(t *testing.T, dir string, n int) {
	t.Helper()
	got := finals(t, dir)
	for i := range n {
		if id := fmt.Sprint("t", i); got[id] != 1 {
			t.Errorf("task %s has %d final events, want 1", id, got[id])
		}
	}
	if len(got) != n {
		t.Errorf("%d tasks have events, want %d", len(got), n)
	}
}

// If the user follows the printed advice, no task is lost, and no task that has an event runs
// again. This holds however often the run ends, and in whatever way.
func TestResume_FollowingAdviceLosesNothing(t *testing.T) {
	t.Parallel()
	const n = 60
	script := `case $1 in *7) exit 3;; esac; sleep 0.0$(( ${1#t} % 4 ))`
	for _, end := range []string{"SIGINT", "two SIGINT", "SIGTERM", "SIGKILL", "cut-off log"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 0))
			dir := withTasks(t, n)
			first := []string{"run", "--task-file", "tasks.json", "-j", "3", "--shutdown-grace-period", "0.02", "--", "sh", "-c", script, "sh", "{task_id}"}
			in, done := prepare(t, dir, first...), 0
			for round := range 40 {
				in.start()
				if round < 8 {
					in.awaitEvents(done + 1 + random.IntN(12))
					switch end {
					case "SIGINT", "two SIGINT":
						_ = in.cmd.Process.Signal(syscall.SIGINT) // the process may have exited
						if end == "two SIGINT" {
							_ = in.cmd.Process.Signal(syscall.SIGINT)
						}
					case "SIGTERM":
						_ = in.cmd.Process.Signal(syscall.SIGTERM)
					default:
						_ = in.cmd.Process.Kill()
					}
				}
				code := in.wait()
				log, _ := os.ReadFile(filepath.Join(dir, "events.log"))
				if end == "cut-off log" && code != app.ExitOK && len(log) > 0 {
					log = log[:len(log)-random.IntN(min(len(log), 400))]
					write(t, dir, "events.log", string(log))
				}
				done = bytes.Count(log, []byte("\n"))
				if code == app.ExitOK {
					break
				}
				command := in.field("continue_with")
				if command == "" { // killed before it could print the advice
					in = prepare(t, dir, slices.Insert(slices.Clone(first), 1, "--resume")...)
					continue
				}
				in = in.shell(command)
			}
			if code := in.wait(); code != app.ExitOK {
				t.Fatalf("seed %d: exit code %d after all rounds\n%s", seed, code, in.stderr.String())
			}
			wantOneFinalEach(t, dir, n)
			if t.Failed() {
				t.Logf("seed %d", seed)
			}

			// The failed tasks can be run again, and their new events replace the earlier ones.
			again := in.shell(in.field("rerun_failed_with")).start()
			again.want(app.ExitOK)
			again.wantError(`"rerun":6`, `"done":54`)
			wantOneFinalEach(t, dir, n)
		})
	}
}

// A continued run recognizes tasks by their IDs: the order of the task file may have changed, and
// tasks may have been added, removed or repeated.
func TestResume_ChangedTaskFile(t *testing.T) {
	t.Parallel()
	in := run(t, 10, 0, "run", "--task-file", "tasks.json", "--max-num-tasks", "6", "--", "true")
	write(t, in.dir, "tasks.json", `[{"task_id":"new","data":1},{"task_id":"t9","data":1},{"task_id":"t3","data":1},{"task_id":"t3","data":1},{"task_id":"t0","data":1}]`)
	next := prepare(t, in.dir, "run", "--resume", "--task-file", "tasks.json", "-j", "2", "--", "true").start()
	next.want(0)
	next.wantError(`"total":5,"to_run":3,"done":2`, `"task_count":3`, `"done_earlier":2`)
	if got := finals(t, in.dir); got["new"] != 1 || got["t9"] != 1 || got["t3"] != 2 || got["t0"] != 1 || got["t8"] != 0 {
		t.Errorf("final events: %v", got)
	}
}

// --resume-from reads other logs, and --resume works with tasks from standard input.
func TestResume_OtherLogsAndStandardInput(t *testing.T) {
	t.Parallel()
	in := run(t, 6, 0, "run", "--task-file", "tasks.json", "--max-num-tasks", "2", "--event-log-file", "a.log", "--", "true")
	prepare(t, in.dir, "run", "--task-file", "tasks.json", "--tasks-to-skip", "2", "--max-num-tasks", "1", "--event-log-file", "b.log", "--", "true").start().want(0)
	next := prepare(t, in.dir, "run", "--resume-from", "a.log", "--resume-from", "b.log", "--task-file", "-", "--", "true")
	next.cmd.Stdin = strings.NewReader(`{"task_id":"t1","data":1}` + "\n" + `{"task_id":"t2","data":1}` + "\n" + `{"task_id":"t3","data":1}` + "\n")
	next.start().want(0)
	next.wantError(`"done":3`, `"task_count":1`)
	if got := finals(t, in.dir); len(got) != 1 || got["t3"] != 1 {
		t.Errorf("final events: %v", got)
	}
}

// While a run continues from a log, no other run can write to this log.
func TestResume_LogIsLocked(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 2)
	path, lines := fifo(t, dir)
	first := prepare(t, dir, "run", "--task-file", "tasks.json", "--", "sh", "-c", `echo started > "$1"; sleep 1000`, "sh", path).start()
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	second := prepare(t, dir, "run", "--resume", "--task-file", "tasks.json", "--", "true").start()
	second.want(app.ExitFatal)
	second.wantError("events.log: another run writes to this event log", "use another --event-log-file")
	_ = first.cmd.Process.Kill()
	first.wait()
	prepare(t, dir, "run", "--resume", "--task-file", "tasks.json", "--", "true").start().want(0)
	wantOneFinalEach(t, dir, 2)
}

// Damaged lines are named, and their tasks run again. Faulty settings are errors.
func TestResume_DamagedLogAndFaultySettings(t *testing.T) {
	t.Parallel()
	in := run(t, 4, 0, "run", "--task-file", "tasks.json", "--", "true")
	log, err := os.ReadFile(filepath.Join(in.dir, "events.log"))
	if err != nil {
		t.Fatal(err)
	}
	parts := bytes.SplitAfter(log, []byte("\n"))
	parts[1] = append(parts[1][:60], '\n')
	write(t, in.dir, "events.log", string(bytes.Join(parts, nil)))
	next := prepare(t, in.dir, "run", "--resume", "--task-file", "tasks.json", "--", "true").start()
	next.want(0)
	next.wantError(`"lines":[2]`, "damaged lines", `"task_count":1`)
	wantOneFinalEach(t, in.dir, 4)
	for _, tc := range []struct {
		code int
		want string
		args []string
	}{
		{app.ExitUsage, `--rerun "fail": not a kind of failed tasks`, []string{"--rerun", "fail", "--task-file", "tasks.json"}},
		{app.ExitUsage, "--resume: the run writes no event log", []string{"--resume", "--no-event-log-to-file", "--task-file", "tasks.json"}},
		{app.ExitUsage, "--resume: the tasks come from a queue", []string{"--resume", "--provider", "AWS", "--job-id", "j"}},
		{app.ExitFatal, "missing.log: no such file", []string{"--resume-from", "missing.log", "--task-file", "tasks.json"}},
	} {
		in := prepare(t, in.dir, slices.Concat([]string{"run"}, tc.args, []string{"--", "true"})...).start()
		in.want(tc.code)
		in.wantError(tc.want)
	}
}

// After reruns with retries, an audit confirms that each task has one final event. This holds even if a
// requested retry happens only in a later run.
func TestAudit_RerunWithRetries(t *testing.T) {
	t.Parallel()
	fail := func(args ...string) []string {
		return append(append([]string{"run", "--task-file", "tasks.json"}, args...), "--", "sh", "-c", "exit 3")
	}
	in := run(t, 5, app.ExitOK, fail()...)
	prepare(t, in.dir, fail("--rerun", "failed", "--retries", "2", "--retry-backoff", "0")...).start().want(app.ExitOK)
	prepare(t, in.dir, fail("--rerun", "failed", "--retry-on-exit")...).start().want(app.ExitOK) // requests retries that do not happen
	again := prepare(t, in.dir, "run", "--resume", "--task-file", "tasks.json", "--", "true").start()
	again.want(app.ExitOK)
	again.wantError(`"completed":5`)
	proof := prepare(t, in.dir, "audit", "--task-file", "tasks.json").start()
	proof.want(app.ExitOK)
	if got := proof.stdout.String(); got != "5 tasks, and each has exactly one final event: 5 completed; 30 attempts in all\n" {
		t.Errorf("got %q", got)
	}
	prepare(t, in.dir, "failed").start().want(app.ExitOK)
}

func TestAudit_Findings(t *testing.T) {
	t.Parallel()
	in := run(t, 30, app.ExitOK, failing()...)
	log, err := os.ReadFile(filepath.Join(in.dir, "events.log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(log), "\n")
	for i, l := range lines {
		if strings.Contains(l, `"t3"`) {
			lines[i] = "damaged\n"
		}
		if strings.Contains(l, `"t4"`) {
			lines[i] += strings.Replace(l, "task_completed", "task_exception", 1) + strings.ReplaceAll(l, `"t4"`, `"t5\\u001b[31m"`)
		}
		if strings.Contains(l, `"t6"`) {
			lines[i] += strings.Replace(l, `"attempt":1`, `"attempt":2`, 1)
		}
	}
	write(t, in.dir, "events.log", strings.Join(lines, ""))
	audit := prepare(t, in.dir, "audit", "--task-file", "tasks.json").start()
	audit.want(app.ExitFatal)
	audit.wantError("events.log: ignored 1 damaged lines: ")
	want := `missing: 1 tasks have no final event: they or their retries have not run, or their events are lost
  t3
repeated: 1 tasks have more than one final event: they have run several times
  t6 (2 final events, attempts 1 2: delivered again)
contradictory: 1 tasks have final events with different outcomes
  t4 (2 final events, attempts 1 1)
unknown: 1 tasks have events, but are not in the task file
  t5\u001b[31m
30 tasks, 32 attempts; to list all findings, use --json
`
	if got := audit.stdout.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	audit = prepare(t, in.dir, "audit", "--json", "--task-file", "tasks.json", "events.log").start()
	audit.want(app.ExitFatal)
	for _, text := range []string{`{"problem":"missing","task_id":"t3","entries":1,"final_events":0}`, `"proven":false,"task_count":30,"event_count":32`} {
		if !strings.Contains(audit.stdout.String(), text) {
			t.Errorf("the output does not contain %s:\n%s", text, audit.stdout.String())
		}
	}
	for _, args := range [][]string{{"audit"}, {"audit", "--task-file", "-"}, {"failed", "--kind", "x"}, {"failed", "--tasks", "new"}} {
		prepare(t, in.dir, args...).start().want(app.ExitUsage)
	}
	for _, args := range [][]string{{"audit", "--task-file", "tasks.json", "none.log"}, {"failed", "none.log"}} {
		wrong := prepare(t, in.dir, args...).start()
		wrong.want(app.ExitFatal)
		wrong.wantError("none.log: no such file")
	}
}

func TestFailed(t *testing.T) {
	t.Parallel()
	in := run(t, 30, app.ExitOK, failing()...)
	failed := prepare(t, in.dir, "failed", "--tasks", "again.jsonl", "--task-file", "tasks.json").start()
	failed.want(app.ExitStrict)
	failed.wantError("3 of 30 tasks failed: 3 exited\n", "3 tasks written to again.jsonl", "--rerun failed")
	const reason = "\texited\t1\texit code 3: no luck today\n"
	if got, want := failed.stdout.String(), "t7"+reason+"t17"+reason+"t27"+reason; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	again := prepare(t, in.dir, "run", "--task-file", "again.jsonl", "--event-log-file", "again.log", "--", "true").start()
	again.want(app.ExitOK)
	again.wantError(`"completed":3`)
	once := prepare(t, in.dir, "failed", "--tasks", "again.jsonl", "--task-file", "tasks.json").start()
	once.want(app.ExitFatal)
	once.wantError("is not overwritten")
	// If a task has final events in several logs, the event in the last log counts.
	later := prepare(t, in.dir, "failed", "events.log", "again.log").start()
	later.want(app.ExitOK)
	later.wantError("none of ")
	prepare(t, in.dir, "failed", "--json", "again.log", "events.log").start().want(app.ExitStrict)
}

// A continued run reports how many of its tasks are done and how many will run, whatever else the event log
// contains.
func TestResume_ReportsTotals(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 20)
	prepare(t, dir, "run", "--task-file", "tasks.json", "--max-num-tasks", "12", "--", "sh", "-c", `test "$1" != t7`, "sh", "{task_id}").start().want(app.ExitOK)
	prepare(t, dir, "run", "--", "true", ":::", "other").start().want(app.ExitOK) // not a task of the file
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--resume"}, `"total":20,"to_run":8,"done":12,"failed":1,`},
		{[]string{"--resume", "--tasks-to-skip", "10"}, `"total":10,"to_run":8,"done":2,"failed":0,`},
		{[]string{"--resume", "--max-num-tasks", "3"}, `"total":15,"to_run":3,"done":12,"failed":1,`},
		{[]string{"--rerun", "failed"}, `"total":20,"to_run":9,"done":11,"failed":0,"rerun":1,`},
	} {
		args := append([]string{"run", "--dry-run", "--task-file", "tasks.json"}, tc.args...)
		in := prepare(t, dir, append(args, "--", "true")...).start()
		in.want(app.ExitOK)
		in.wantError(tc.want)
	}
	console := prepare(t, dir, "run", "--resume", "--dry-run", "--log-format", "console", "--task-file", "tasks.json", "--", "true").start()
	console.want(app.ExitOK)
	console.wantError("INF continuing: 12 of 20 tasks are done (1 of them failed; --rerun failed runs them again), 8 to run\n")
	in := prepare(t, dir, "run", "--resume", "--", "true", ":::", "other", "new").start()
	in.want(app.ExitOK)
	in.wantError(`"total":2,"to_run":1,"done":1,`)
	in = prepare(t, dir, "run", "--resume", "--", "true", ":::", "unknown").start()
	in.want(app.ExitOK)
	in.wantError("none of the finished tasks in the event log is a task of this run", `"done":0,`)
	in = prepare(t, dir, "run", "--rerun", "failed", "--task-file", "tasks.json", "--", "true").start()
	in.want(app.ExitOK)
	in = prepare(t, dir, "run", "--resume", "--task-file", "tasks.json", "--", "true").start()
	in.want(app.ExitOK)
	in.wantError("no task was run because all tasks are done")
}

// The advice of a continued run does not repeat --resume.
func TestResume_AdviceToRerunReplacesResume(t *testing.T) {
	t.Parallel()
	in := prepare(t, t.TempDir(), "run", "--resume", "--", "false", ":::", "a").start()
	in.want(app.ExitOK)
	in.wantError(` run --rerun failed -- false ::: a"`)
}
