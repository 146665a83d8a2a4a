package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/app"
)

// An interrupted load prints how to continue, and no task is loaded twice.
func TestLoad_ContinuesAfterInterrupt(t *testing.T) { onEach(t, loadContinuesCase) }

func loadContinuesCase(t *testing.T, j *job) {
	j.load(0)
	path, _ := fifo(t, j.dir)
	feed, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = feed.Close() }()
	var all strings.Builder
	for i := range 100 {
		_, _ = fmt.Fprintf(&all, "{\"task_id\":\"t%d\",\"data\":{}}\n", i)
	}
	write(t, j.dir, "tasks.jsonl", all.String())
	in := j.prepare("load", "--task-file", "-")
	in.cmd.Stdin = feed
	in.start()
	for i := range 35 {
		_, _ = fmt.Fprintf(feed, "{\"task_id\":\"t%d\",\"data\":{}}\n", i)
	}
	for j.depth("jobs").Visible < 30 { // the last tasks may be part of an incomplete block
		<-time.After(50 * time.Millisecond)
	}
	in.signal(syscall.SIGINT)
	in.want(130)
	var sent, next int
	if _, err := fmt.Sscanf(in.stderr.String(), "%d tasks are in the queue jobs", &sent); err != nil || sent < 30 || sent > 35 {
		t.Fatalf("unexpected number of loaded tasks, error %v:\n%s", err, in.stderr.String())
	}
	_, rest, _ := strings.Cut(in.stderr.String(), "--tasks-to-skip ")
	if _, err := fmt.Sscanf(rest, "%d", &next); err != nil || next != sent {
		t.Fatalf("unexpected position to continue from, error %v:\n%s", err, in.stderr.String())
	}
	j.do(0, "load", "--task-file", "tasks.jsonl", "--tasks-to-skip", fmt.Sprint(next))
	if s := j.depth("jobs"); s.Visible != 100 {
		t.Errorf("%d tasks in the queue, want 100", s.Visible)
	}
}

// Errors name the position of a task that is too large or malformed.
func TestLoad_Errors(t *testing.T) { onEach(t, loadErrorsCase) }

func loadErrorsCase(t *testing.T, j *job) {
	j.load(0)
	write(t, j.dir, "large.jsonl", `{"task_id":"a","data":1}`+"\n"+`{"task_id":"b","data":"`+strings.Repeat("x", j.maxMessageBytes)+`"}`+"\n"+`{"task_id":"c","data":1}`)
	in := j.do(app.ExitFatal, "load", "--task-file", "large.jsonl")
	in.wantError(`task 2, \"b\"`, "too large", "1 tasks are in the queue jobs", "continue with --tasks-to-skip 1")
	write(t, j.dir, "broken.jsonl", `{"task_id":"a","data":1}`+"\n"+`{"task_id":"b"}`)
	in = j.do(app.ExitFatal, "load", "--task-file", "broken.jsonl")
	in.wantError("broken.jsonl", "entry 2", "1 tasks are in the queue jobs", "continue with --tasks-to-skip 1")
	in = j.do(app.ExitFatal, "load", "--task-file", "broken.jsonl", "--tasks-to-skip", "8")
	in.wantError("no task was sent to the queue jobs: broken.jsonl: entry 2, line 2: data is missing", "repair this entry, because the 8 entries that --tasks-to-skip skips must be valid, too")
	if text := in.stderr.String(); strings.Count(text, "broken.jsonl") != 1 || strings.Contains(text, "continue with") || strings.Contains(text, "are in the queue") {
		t.Errorf("more than one message: %s", text)
	}
	in = j.do(app.ExitFatal, "load", "--task-file", "broken.jsonl", "--tasks-to-skip", "1")
	in.wantError("0 tasks are in the queue jobs", "entry 2", "continue with --tasks-to-skip 1")
	in = j.do(app.ExitFatal, "load", "--task-file", "broken.jsonl", "--queue-name", "other")
	in.wantError(j.notFoundText, "other", "ctworker load --create")
	write(t, j.dir, "ambiguous.yaml", "- {task_id: a, data: 1}\n- {task_id: b, data: 2024_0115}\n")
	in = j.do(0, "load", "--task-file", "ambiguous.yaml")
	in.wantError("ambiguous YAML value", `"entry":2`, `"value":"2024_0115"`)
	for _, args := range [][]string{{"--tasks-to-skip", "-1"}, {"--max-num-tasks", "-3"}, {"--queue-name", "a b"}} {
		in := j.do(app.ExitUsage, append([]string{"load", "--task-file", "broken.jsonl"}, args...)...)
		in.wantError(args[0], "ctworker help load")
	}
}

// The queue commands show, create, purge and delete queues. To purge or delete queues, --yes is
// required.
func TestQueueCommands(t *testing.T) { onEach(t, queueCommandsCase) }

func queueCommandsCase(t *testing.T, j *job) {
	in := j.do(app.ExitFatal, "queue", "status")
	if n := strings.Count(in.stdout.String(), "not there"); n != 2 {
		t.Errorf("queue status printed:\n%s", in.stdout.String())
	}
	j.do(0, "queue", "create")
	if in := j.do(0, "queue", "create", "--events"); in.stdout.String() != "jobs-events is there already\n" {
		t.Errorf("queue create printed:\n%s", in.stdout.String())
	}
	j.load(5)
	for _, what := range []string{"purge", "delete"} {
		in := j.do(app.ExitUsage, "queue", what)
		in.wantError("--yes", j.purgePrompt)
	}
	if in := j.do(0, "queue", "purge", "--yes"); in.stdout.String() != "deleted everything in jobs\n" {
		t.Errorf("queue purge printed:\n%s", in.stdout.String())
	}
	j.wantEmpty()
	j.do(0, "queue", "delete", "--yes", "--events", "--tasks")
	if in := j.do(0, "queue", "delete", "--yes"); in.stdout.String() != "jobs is not there\n" {
		t.Errorf("queue delete printed:\n%s", in.stdout.String())
	}
	j.do(app.ExitFatal, "queue", "status", "--events")
	j.do(app.ExitUsage, "queue", "status", "--events=false").wantError("--tasks")
	j.do(app.ExitUsage, "queue", "statsu").wantError(`did you mean "status"?`)
	j.do(app.ExitFatal, "events").wantError("event queue jobs-events does not exist yet")
	j.do(app.ExitFatal, "run", "--", "true").wantError(j.notFoundText, "jobs", "ctworker queue create")
}

// Settings that the provider does not support are rejected before anything runs.
func TestQueue_InvalidSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	aws := []string{"--provider", "aws"}
	gcp := []string{"--provider", "gcp", "--project-id", "p"}
	for _, tc := range []struct {
		provider, args []string
		text           string
	}{
		{aws, []string{"--max-runtime", "43200"}, "use 43165 or less"},
		{aws, []string{"--lease", "50000"}, "--lease 50000"},
		{aws, []string{"--retry-delay", "43201"}, "--retry-delay 43201: the maximum of SQS is 43200 (12 hours)"},
		{aws, []string{"--job-id", "a/b"}, `--job-id "a/b": invalid SQS queue name`},
		{aws, []string{"--job-id", strings.Repeat("x", 75)}, "at most 68 letters"},
		{gcp, []string{"--lease", "601"}, "--lease 601: the maximum of Pub/Sub is 600"},
		{gcp, []string{"--retry-delay", "3600"}, "--retry-delay 3600: the maximum of Pub/Sub is 600"},
		{gcp, []string{"--queue-name", "1a"}, `--queue-name "1a": invalid Pub/Sub queue name`},
		{gcp, []string{"--region", "evil.example.com/"}, "--region"},
		{gcp, []string{"--job-id", "google"}, "not with goog"},
		{gcp[:2], nil, "--project-id"},
	} {
		args := append([]string{"run", "--job-id", "jobs"}, append(tc.provider, tc.args...)...)
		in := prepare(t, dir, append(args, "--", "true")...).start()
		in.want(app.ExitUsage)
		in.wantError(tc.text)
	}
}
