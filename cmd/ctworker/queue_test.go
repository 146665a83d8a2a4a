package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctworker/ctworker"
	"github.com/ctworker/ctworker/internal/app"
)

// isFullSize reports whether tests run at the size used in CI.
func isFullSize() bool { return os.Getenv("CTWORKER_FULL") != "" }

// taskCount returns the number of tasks of a test: the parameter small by default, and the
// parameter ci if CTWORKER_FULL is set. A number above 1 in CTWORKER_FULL replaces ci.
func taskCount(small, ci int) int {
	switch n, _ := strconv.Atoi(os.Getenv("CTWORKER_FULL")); {
	case n > 1:
		return n
	case isFullSize():
		return ci
	}
	return small
}

// job is a job with its queues at a provider.
type job struct {
	provider
	cloud
	t              *testing.T
	dir            string
	counter        counter
	counterAddress string // of the counting proxy
	vars           []string
}

// useAddress sets the server address for commands that are started from now on.
func (j *job) useAddress(address string) { j.vars = j.env(address) }

// prepare returns an invocation for the job. The invocation sends no keep_alive events unless args set an
// interval.
func (j *job) prepare(args ...string) *invocation {
	j.t.Helper()
	in := prepare(j.t, j.dir, args...)
	in.cmd.Env = append(append(in.cmd.Env, "RMS_CLOUD_TASKS_KEEPALIVE_INTERVAL=0"), j.vars...)
	return in
}

// do runs ctworker, and fails the test unless the exit code is code.
func (j *job) do(code int, args ...string) *invocation {
	j.t.Helper()
	in := j.prepare(args...).start()
	in.want(code)
	return in
}

// load creates the task queue and loads n tasks, t0, t1, …
func (j *job) load(n int, args ...string) {
	j.t.Helper()
	var b strings.Builder
	for i := range n {
		_, _ = fmt.Fprintf(&b, "{\"task_id\":\"t%d\",\"data\":{\"n\":%d}}\n", i, i)
	}
	write(j.t, j.dir, "tasks.jsonl", b.String())
	j.do(0, append([]string{"load", "--task-file", "tasks.jsonl", "--create"}, args...)...)
}

// readEvents removes all events from the event queue, and returns those other than keep_alive and
// tasks_loaded.
func (j *job) readEvents() []map[string]any {
	j.t.Helper()
	return slices.DeleteFunc(j.readAllEvents(), func(e map[string]any) bool {
		return e["event_type"] == "keep_alive" || e["event_type"] == "tasks_loaded"
	})
}

// readAllEvents removes all events from the event queue and returns them. It repeats the "events"
// command, because the command may exit before a busy server has responded.
func (j *job) readAllEvents() (all []map[string]any) {
	j.t.Helper()
	for end := time.Now().Add(testTimeout); ; {
		all = append(all, j.readSomeEvents()...)
		d := j.depth("jobs-events")
		if isEmpty(d) {
			return all
		}
		if time.Now().After(end) {
			j.t.Fatalf("%d events read, but the event queue is not empty: %+v", len(all), d)
		}
	}
}

func (j *job) readSomeEvents() (all []map[string]any) {
	j.t.Helper()
	file := filepath.Join(j.dir, "queue.jsonl")
	in := j.prepare("events", "--output", file, "--idle-timeout", "1").start()
	if code := in.wait(); code != app.ExitOK && code != app.ExitStrict { // the latter if events remain
		j.t.Fatalf("exit code %d\n%s", code, in.stderr.String())
	}
	f, err := os.Open(file)
	if err != nil {
		j.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	defer func() { _ = os.Remove(file) }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e map[string]any
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			j.t.Fatalf("event %q: %v", lines.Text(), err)
		}
		all = append(all, e)
	}
	return all
}

// wantEmpty fails the test unless the task queue is empty.
func (j *job) wantEmpty() {
	j.t.Helper()
	j.wantTasks(0, 0)
}

// wantTasks fails the test unless the task queue has this depth.
func (j *job) wantTasks(visible, inFlight int) {
	j.t.Helper()
	if s := j.depth("jobs"); s.Visible != visible || s.InFlight != inFlight {
		j.t.Errorf("%d tasks visible and %d in flight, want %d and %d", s.Visible, s.InFlight, visible, inFlight)
	}
}

// wantEvents removes all events from the event queue, and fails the test unless there are n.
func (j *job) wantEvents(n int) []map[string]any {
	j.t.Helper()
	events := j.readEvents()
	if len(events) != n {
		j.t.Errorf("%d events, want %d", len(events), n)
	}
	return events
}

// idsOf returns the number of events of each task.
func idsOf(events []map[string]any) map[string]int {
	ids := map[string]int{}
	for _, e := range events {
		if id, ok := e["task_id"].(string); ok {
			ids[id]++
		}
	}
	return ids
}

// A complete job runs with several workers. Each task of the file runs once and has one event, and
// the number of requests per task is limited.
func TestQueue_EndToEnd(t *testing.T) { onEach(t, endToEndCase) }

func endToEndCase(t *testing.T, j *job) {
	tasks := taskCount(1000, 4000)
	j.load(tasks)
	j.wantTasks(tasks, 0)
	before := j.counter.Total()
	var workers []*invocation
	for range 4 {
		workers = append(workers, j.prepare("run", "-j", "4", "--idle-timeout", "15", "--", "/bin/true").start())
	}
	for _, w := range workers {
		w.want(0)
	}
	requests := float64(j.counter.Total()-before) / float64(tasks)
	t.Logf("%d tasks\n%s", tasks, j.counter.Table(tasks))
	t.Logf("requests of the workers: %.3f per task", requests)
	j.wantEmpty()
	events := j.readEvents()
	for id, n := range idsOf(events) {
		if n != 1 {
			t.Errorf("task %s has %d events, want 1", id, n)
		}
	}
	if len(events) != tasks {
		t.Errorf("%d events, want %d", len(events), tasks)
	}
	for _, e := range events {
		if e["event_type"] != "task_completed" || e["attempt"] != 1.0 || e["retry"] != false {
			t.Errorf("unexpected event: %v", e)
		}
	}
	if requests > 1 { // the minimum is 0.3; docs/performance.md has the number on an idle machine
		t.Errorf("%.3f requests per task, want at most 1", requests)
	}
}

// After SIGTERM, running tasks may finish. Within a second, tasks that wait for a slot are
// available to other workers.
func TestQueue_GracefulShutdown(t *testing.T) { onEach(t, gracefulShutdownCase) }

func gracefulShutdownCase(t *testing.T, j *job) {
	j.load(10)
	path, lines := fifo(t, j.dir)
	w := j.prepare("run", "-j", "2", "--", "sh", "-c", "echo $$ > "+path+"; while ! [ -e go ]; do sleep 0.05; done").start()
	pids(t, lines, 2)
	w.signal(syscall.SIGTERM)
	startedAt := time.Now()
	for {
		if s := j.depth("jobs"); s.Visible == 8 && s.InFlight == 2 {
			break
		}
		if time.Since(startedAt) > 10*time.Second {
			t.Fatal("the waiting tasks were not released")
		}
	}
	write(t, j.dir, "go", "")
	w.want(0)
	j.wantTasks(8, 0)
	j.wantEvents(2)
}

// Tasks that a shutdown kills are released, and the exit code is that of the signal.
func TestQueue_InterruptedTaskIsReleased(t *testing.T) { onEach(t, interruptedCase) }

func interruptedCase(t *testing.T, j *job) {
	j.load(1)
	path, lines := fifo(t, j.dir)
	w := j.prepare("run", "--shutdown-grace-period", "0", "--", "sh", "-c", "echo $$ > "+path+"; exec sleep 1000").start()
	pids(t, lines, 1)
	w.signal(syscall.SIGTERM)
	w.want(143)
	j.wantTasks(1, 0)
	j.wantEvents(0)
}

// With a skip and a limit the remaining tasks stay in the queue.
func TestQueue_SkipAndLimit(t *testing.T) { onEach(t, skipAndLimitCase) }

func skipAndLimitCase(t *testing.T, j *job) {
	j.load(20)
	j.do(0, "run", "-j", "3", "--tasks-to-skip", "4", "--max-num-tasks", "7", "--lease", "3", "--", "/bin/true")
	if events := j.readEvents(); len(events) != 7 || len(idsOf(events)) != 7 {
		t.Errorf("%d events, want one for each of 7 tasks", len(events))
	}
	if s := j.depth("jobs"); s.Visible+s.InFlight != 13 || s.InFlight > 4 {
		t.Errorf("%d tasks visible, %d in flight, want 13 in all and at most 4 in flight", s.Visible, s.InFlight)
	}
	j.do(0, "run", "-j", "3", "--idle-timeout", "4", "--", "/bin/true") // also runs the skipped tasks, after they have become visible again
	j.wantEmpty()
	j.wantEvents(13)
}

// A failed task is attempted up to --max-attempts times. Its last event contains the reason why it is not
// retried again.
func TestQueue_Retry(t *testing.T) { onEach(t, retryCase) }

func retryCase(t *testing.T, j *job) {
	j.countAttempts()
	j.load(3)
	startedAt := time.Now()
	j.do(0, "run", "-j", "3", "--retry-on-exit", "--max-attempts", "3", "--retry-delay", "1", "--idle-timeout", "3", "--", "sh", "-c", "exit 7")
	if took := time.Since(startedAt); took < 2*time.Second {
		t.Errorf("three attempts with a delay of 1 s took %v, want at least 2 s", took)
	}
	j.wantEmpty()
	seen := map[string]int{}
	for _, e := range j.readEvents() {
		id, _ := e["task_id"].(string)
		attempt, _ := e["attempt"].(float64)
		seen[id]++
		why, _ := e["retry_denied"].(string)
		if e["event_type"] != "task_exited" || e["exit_code"] != 7.0 || e["retry"] != (attempt < 3) || strings.Contains(why, "attempt 3") != (attempt == 3) {
			t.Errorf("unexpected event: %v", e)
		}
	}
	if len(seen) != 3 || seen["t0"] != 3 || seen["t1"] != 3 || seen["t2"] != 3 {
		t.Errorf("events by task: %v, want 3 for each of 3 tasks", seen)
	}
}

// Malformed messages are reported completely, and the valid tasks between them run.
func TestQueue_MalformedMessages(t *testing.T) { onEach(t, malformedCase) }

func malformedCase(t *testing.T, j *job) {
	n := 50
	if isFullSize() {
		n = 1000
	}
	bad := map[string]bool{}
	var bodies []string
	kinds := []func(i int) string{
		func(i int) string { return fmt.Sprintf("not JSON %d", i) },
		func(i int) string { return fmt.Sprintf(`{"task_id": %d.5, "data": {}}`, i) },
		func(i int) string { return fmt.Sprintf(`{"data": {"n": %d}}`, i) },
		func(i int) string { return fmt.Sprintf("\u0085\ufffd\U0001f600 \x7f %d", i) },
		func(i int) string { return fmt.Sprintf(`["a list", %d]`, i) },
	}
	if j.allowsBinary {
		kinds = append(kinds, func(i int) string { return fmt.Sprintf("\xff\x00\xfe%d", i) })
	}
	for i := range n {
		bodies = append(bodies, fmt.Sprintf(`{"task_id": "t%d", "data": {}}`, i))
		body := kinds[i%len(kinds)](i)
		if i == 7 || i == 8 {
			body = strings.Repeat(`"`, 1<<20-10) + fmt.Sprint(i)
		}
		bad[body] = true
		bodies = append(bodies, body)
	}
	j.publish("jobs", bodies...)
	for range 3 { // publish again if a client has repeated a request after a lost response, and published its messages twice
		if j.depth("jobs").Visible == len(bodies) {
			break
		}
		j.do(0, "queue", "purge", "--yes")
		j.publish("jobs", bodies...)
	}
	w := j.do(0, "run", "-j", "4", "--idle-timeout", "2", "--event-log-to-file", "--", "/bin/true")
	w.wantError(fmt.Sprintf(`"malformed":%d`, n))
	j.wantEmpty()
	inFile := map[string]bool{}
	for _, line := range bytes.Split(bytes.TrimSpace(readFile(t, j.dir, "events.log")), []byte("\n")) {
		var e map[string]any
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if m := messageOf(e); m != "" {
			inFile[m] = true
		}
	}
	tasks, whole := 0, map[string]bool{}
	parts := map[any]map[int]string{} // by timestamp
	for _, e := range j.readEvents() {
		if e["task_id"] != nil {
			tasks++
			continue
		}
		message := messageOf(e)
		if e["event_type"] != "non_fatal_exception" || e["stack_trace"] == "" || message == "" {
			t.Errorf("unexpected event: %.300v", e)
		}
		if part, ok := e["message_part"].(float64); ok {
			if parts[e["timestamp"]] == nil {
				parts[e["timestamp"]] = map[int]string{}
			}
			parts[e["timestamp"]][int(part)] = message
			continue
		}
		whole[message] = true
	}
	for _, p := range parts {
		var b strings.Builder
		for i := range len(p) {
			b.WriteString(p[i+1])
		}
		whole[b.String()] = true
	}
	if tasks != n || len(whole) != n || len(inFile) != n {
		t.Errorf("%d tasks, want %d; want %d malformed messages, got %d in the event queue and %d in the event log", tasks, n, n, len(whole), len(inFile))
	}
	for body := range bad {
		if !whole[body] || !inFile[body] {
			t.Errorf("malformed message %.50q: in the event queue %v, in the event log %v", body, whole[body], inFile[body])
		}
	}
}

// messageOf returns the malformed message that an event reports, or "".
func messageOf(e map[string]any) string {
	if text, ok := e["message"].(string); ok {
		return text
	}
	text, _ := e["message_base64"].(string)
	raw, _ := base64.StdEncoding.DecodeString(text)
	return string(raw)
}

// During an outage of the event queue, no task is acknowledged, and only a few more tasks are run.
// After the outage, each task has its event.
func TestQueue_EventQueueOutage(t *testing.T) { onEach(t, eventQueueOutageCase) }

func eventQueueOutageCase(t *testing.T, j *job) {
	const tasks, maxStarted = 600, 300
	j.load(tasks)
	j.do(0, "queue", "create", "--events")
	j.counter.SetUnavailable(j.sendAction, true)
	w := j.prepare("run", "-j", "4", "--idle-timeout", "2", "--", "sh", "-c", "echo >> started").start()
	started := func() int {
		b, _ := os.ReadFile(filepath.Join(j.dir, "started"))
		return len(b)
	}
	for last := -1; last < 10 || started() != last; { // until no task has started for two seconds
		last = started()
		<-time.After(2 * time.Second)
	}
	if n := j.counter.Count(j.deleteAction); n > 0 || started() > maxStarted {
		t.Errorf("%d acks and %d task starts during the outage, want none and at most %d", n, started(), maxStarted)
	}
	j.counter.SetUnavailable(j.sendAction, false)
	w.want(0)
	j.wantEmpty()
	if ids := idsOf(j.wantEvents(tasks)); len(ids) != tasks || started() != tasks {
		t.Errorf("events of %d tasks, and %d task starts, want %d of each", len(ids), started(), tasks)
	}
}

// Exactly-once queues have different names from standard queues, but the same events.
func TestQueue_ExactlyOnce(t *testing.T) { onEach(t, exactlyOnceCase) }

func exactlyOnceCase(t *testing.T, j *job) {
	j.vars = append(j.vars, "RMS_CLOUD_TASKS_EXACTLY_ONCE_QUEUE=1")
	j.load(30)
	if j.fifoSuffix != "" {
		j.do(0, "load", "--task-file", "tasks.jsonl") // duplicates within five minutes are dropped
	}
	w := j.prepare("run", "-j", "4", "--idle-timeout", "4", "--", "/bin/true").start()
	w.want(0)
	w.wantError(`"queue":"jobs`+j.fifoSuffix+`"`, `"event_queue":"jobs-events`+j.fifoSuffix+`"`)
	if d := j.depth("jobs" + j.fifoSuffix); !isEmpty(d) {
		t.Errorf("the task queue is not empty: %+v", d)
	}
	if events := j.readEvents(); len(events) != 30 || len(idsOf(events)) != 30 {
		t.Errorf("%d events, want one for each of 30 tasks", len(events))
	}
}

// The queue's redrive policy moves a task to the dead-letter queue after the allowed number of
// releases.
func TestQueue_Redrive(t *testing.T) { onEach(t, redriveCase) }

func redriveCase(t *testing.T, j *job) {
	j.redrive("dead", j.minRedriveCount)
	j.load(2)
	if in := j.do(0, "queue", "status"); !strings.Contains(in.stdout.String(), fmt.Sprintf("received %d times go to the queue dead", j.minRedriveCount)) {
		t.Errorf("queue status printed:\n%s", in.stdout.String())
	}
	j.do(0, "run", "--retry-on-exit", "--idle-timeout", "2", "--", "false")
	j.wantEvents(2 * j.minRedriveCount)
	if n := j.count("dead"); n != 2 {
		t.Errorf("%d tasks in the dead-letter queue, want 2", n)
	}
}

// keep_alive events are written to the event queue, and not to the event log.
func TestQueue_KeepAlive(t *testing.T) { onEach(t, keepAliveCase) }

func keepAliveCase(t *testing.T, j *job) {
	j.load(1)
	j.do(0, "run", "--keepalive-interval", "0.5", "--event-log-to-file", "--idle-timeout", "1", "--", "sleep", "2")
	count, ended := 0, 0
	hostname, _ := os.Hostname()
	for _, e := range j.readAllEvents() {
		if e["event_type"] == "keep_alive" {
			count++
			if e["instance_id"] != hostname || e["hostname"] != hostname {
				t.Errorf("keep_alive event without the names of this machine: %v", e)
			}
			digest, _ := e["worker"].(map[string]any)
			if digest["interval_seconds"] != 0.5 || digest["slots"] != 1.0 || digest["version"] != ctworker.Version || e["run_id"] == nil {
				t.Errorf("unexpected digest: %v", e)
			}
			if done, _ := digest["completed"].(float64); digest["phase"] == "ended" && done == 1 {
				ended++
			}
		}
	}
	if ended != 1 {
		t.Errorf("%d keep_alive events of an ended worker with one completed task, want 1", ended)
	}
	if count < 3 || bytes.Contains(readFile(t, j.dir, "events.log"), []byte("keep_alive")) {
		t.Errorf("%d keep_alive events in the queue, want at least 3 and none in the log", count)
	}
}

// A fatal error is also reported to the event queue.
func TestQueue_FatalException(t *testing.T) { onEach(t, fatalExceptionCase) }

func fatalExceptionCase(t *testing.T, j *job) {
	j.load(1)
	j.do(app.ExitFatal, "run", "--isolation", "reuse", "--", "/bin/false")
	var fatal map[string]any
	for _, e := range j.readEvents() {
		if e["event_type"] == "fatal_exception" {
			fatal = e
		}
	}
	text, _ := fatal["exception"].(string)
	if stack, _ := fatal["stack_trace"].(string); !strings.Contains(text, "/bin/false") || stack == "" {
		t.Errorf("unexpected fatal_exception: %v", fatal)
	}
	j.wantTasks(1, 0)
}

// The events of a task file can also be written to a queue.
func TestRun_TaskFileWithEventQueue(t *testing.T) { onEach(t, taskFileCase) }

func taskFileCase(t *testing.T, j *job) {
	write(t, j.dir, "tasks.json", `[{"task_id": "a", "data": {}}, {"task_id": "b", "data": {}}]`)
	j.do(0, "run", "--task-file", "tasks.json", "--event-log-to-queue", "--", "/bin/true")
	if events := j.readEvents(); len(events) != 2 || bytes.Count(readFile(t, j.dir, "events.log"), []byte("\n")) != 2 {
		t.Errorf("want two events in the queue and in the log; events in the queue: %v", events)
	}
}

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
