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

	"github.com/ctworker/ctworker/internal/app"
)

// full reports whether tests run at the size that CI has.
func full() bool { return os.Getenv("CTWORKER_FULL") != "" }

// size is a number of tasks: small, or the one that CI has, or what CTWORKER_FULL says
// if that is a number above 1.
func size(small, ci int) int {
	switch n, _ := strconv.Atoi(os.Getenv("CTWORKER_FULL")); {
	case n > 1:
		return n
	case full():
		return ci
	}
	return small
}

// job is a job with its queues.
type job struct {
	provider
	cloud
	t       *testing.T
	dir     string
	counter counter
	home    string // the counter's address
	vars    []string
}

// via has what is started from now on find the server at this address.
func (j *job) via(address string) { j.vars = j.env(address) }

// prepare prepares an invocation without keep_alive events, unless args set an interval.
func (j *job) prepare(args ...string) *invocation {
	j.t.Helper()
	in := prepare(j.t, j.dir, args...)
	in.cmd.Env = append(append(in.cmd.Env, "RMS_CLOUD_TASKS_KEEPALIVE_INTERVAL=0"), j.vars...)
	return in
}

// do runs ctworker to its end, which is to be code.
func (j *job) do(code int, args ...string) *invocation {
	j.t.Helper()
	in := j.prepare(args...).start()
	in.want(code)
	return in
}

// load puts n tasks, t0 and so on, into a new queue.
func (j *job) load(n int, args ...string) {
	j.t.Helper()
	var b strings.Builder
	for i := range n {
		_, _ = fmt.Fprintf(&b, "{\"task_id\":\"t%d\",\"data\":{\"n\":%d}}\n", i, i)
	}
	write(j.t, j.dir, "tasks.jsonl", b.String())
	j.do(0, append([]string{"load", "--task-file", "tasks.jsonl", "--create"}, args...)...)
}

// readEvents takes the events out of the queue and returns them, except for those that
// report that a worker is alive.
func (j *job) readEvents() []map[string]any {
	j.t.Helper()
	return slices.DeleteFunc(j.readAllEvents(), func(e map[string]any) bool { return e["event_type"] == "keep_alive" })
}

// readAllEvents takes the events out of the queue, all of them: on a busy machine the
// reader may end before it has been answered.
func (j *job) readAllEvents() (all []map[string]any) {
	j.t.Helper()
	for end := time.Now().Add(hanging); ; {
		all = append(all, j.readSomeEvents()...)
		d := j.depth("jobs-events")
		if isEmpty(d) {
			return all
		}
		if time.Now().After(end) {
			j.t.Fatalf("%d events have been read, and not all there are: %+v", len(all), d)
		}
	}
}

func (j *job) readSomeEvents() (all []map[string]any) {
	j.t.Helper()
	file := filepath.Join(j.dir, "queue.jsonl")
	j.do(0, "events", "--output", file, "--idle-timeout", "1")
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

// wantEmpty fails the test unless nothing is left of the tasks.
func (j *job) wantEmpty() {
	j.t.Helper()
	j.wantTasks(0, 0)
}

// wantTasks fails the test unless so many tasks wait, and so many are held.
func (j *job) wantTasks(waiting, held int) {
	j.t.Helper()
	if s := j.depth("jobs"); s.Waiting != waiting || s.Held != held {
		j.t.Errorf("%d tasks wait and %d are held, want %d and %d", s.Waiting, s.Held, waiting, held)
	}
}

// wantEvents fails the test unless so many events are in the queue, which it empties.
func (j *job) wantEvents(n int) []map[string]any {
	j.t.Helper()
	events := j.readEvents()
	if len(events) != n {
		j.t.Errorf("%d events, want %d", len(events), n)
	}
	return events
}

// idsOf counts the events of each task.
func idsOf(events []map[string]any) map[string]int {
	ids := map[string]int{}
	for _, e := range events {
		if id, ok := e["task_id"].(string); ok {
			ids[id]++
		}
	}
	return ids
}

// A job from its task file over the queue to its events, with several workers: each
// task runs once, and has one event. Requests are counted at the server.
func TestQueueEndToEnd(t *testing.T) { onEach(t, endToEndCase) }

func endToEndCase(t *testing.T, j *job) {
	tasks := size(1000, 4000)
	j.load(tasks)
	j.wantTasks(tasks, 0)
	before := j.counter.All()
	var workers []*invocation
	for range 4 {
		workers = append(workers, j.prepare("run", "-j", "4", "--idle-timeout", "4", "--", "/bin/true").start())
	}
	for _, w := range workers {
		w.want(0)
	}
	requests := float64(j.counter.All()-before) / float64(tasks)
	t.Logf("%d tasks\n%s", tasks, j.counter.Table(tasks))
	t.Logf("the workers' requests: %.3f a task", requests)
	j.wantEmpty()
	events := j.readEvents()
	for id, n := range idsOf(events) {
		if n != 1 {
			t.Errorf("%s has %d events", id, n)
		}
	}
	if len(events) != tasks {
		t.Errorf("%d events of %d tasks", len(events), tasks)
	}
	for _, e := range events {
		if e["event_type"] != "task_completed" || e["attempt"] != 1.0 || e["retry"] != false {
			t.Errorf("%v", e)
		}
	}
	if requests > 1 { // 0.3 is the least there can be; what a quiet machine needs stands in docs/performance.md
		t.Errorf("%.3f requests a task", requests)
	}
}

// What waits for a slot is there for others within a second of a SIGTERM, and what runs
// may finish.
func TestQueueShutdown(t *testing.T) { onEach(t, shutdownCase) }

func shutdownCase(t *testing.T, j *job) {
	j.load(10)
	path, lines := fifo(t, j.dir)
	w := j.prepare("run", "-j", "2", "--", "sh", "-c", "echo $$ > "+path+"; while ! [ -e go ]; do sleep 0.05; done").start()
	pids(t, lines, 2)
	w.signal(syscall.SIGTERM)
	began := time.Now()
	for {
		if s := j.depth("jobs"); s.Waiting == 8 && s.Held == 2 {
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatal("the others are not there for other workers")
		}
	}
	write(t, j.dir, "go", "")
	w.want(0)
	j.wantTasks(8, 0)
	j.wantEvents(2)
}

// What a shutdown has to end is in the queue again, and the exit code says so.
func TestQueueInterrupted(t *testing.T) { onEach(t, interruptedCase) }

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

// Of two queues that are read with a skip and a limit, so many tasks are left.
func TestQueueSkipAndLimit(t *testing.T) { onEach(t, skipAndLimitCase) }

func skipAndLimitCase(t *testing.T, j *job) {
	j.load(20)
	j.do(0, "run", "-j", "3", "--tasks-to-skip", "4", "--max-num-tasks", "7", "--lease", "3", "--", "/bin/true")
	if events := j.readEvents(); len(events) != 7 || len(idsOf(events)) != 7 {
		t.Errorf("%d events", len(events))
	}
	if s := j.depth("jobs"); s.Waiting+s.Held != 13 || s.Held > 4 {
		t.Errorf("%d waiting, %d held", s.Waiting, s.Held)
	}
	j.do(0, "run", "-j", "3", "--idle-timeout", "4", "--", "/bin/true") // those skipped come back
	j.wantEmpty()
	j.wantEvents(13)
}

// A task that fails is tried again, so often and no more, and its last event says why.
func TestQueueRetry(t *testing.T) { onEach(t, retryCase) }

func retryCase(t *testing.T, j *job) {
	j.countAttempts()
	j.load(3)
	began := time.Now()
	j.do(0, "run", "-j", "3", "--retry-on-exit", "--max-attempts", "3", "--retry-delay", "1", "--idle-timeout", "3", "--", "sh", "-c", "exit 7")
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("three attempts a second apart took %v", took)
	}
	j.wantEmpty()
	seen := map[string]int{}
	for _, e := range j.readEvents() {
		id, _ := e["task_id"].(string)
		attempt, _ := e["attempt"].(float64)
		seen[id]++
		why, _ := e["retry_denied"].(string)
		if e["event_type"] != "task_exited" || e["exit_code"] != 7.0 || e["retry"] != (attempt < 3) || strings.Contains(why, "attempt 3") != (attempt == 3) {
			t.Errorf("%v", e)
		}
	}
	if len(seen) != 3 || seen["t0"] != 3 || seen["t1"] != 3 || seen["t2"] != 3 {
		t.Errorf("%v", seen)
	}
}

// Messages that are no tasks are told of whole, and the tasks among them run.
func TestQueueMalformed(t *testing.T) { onEach(t, malformedCase) }

func malformedCase(t *testing.T, j *job) {
	n := 50
	if full() {
		n = 1000
	}
	bad := map[string]bool{}
	var bodies []string
	kinds := []func(i int) string{
		func(i int) string { return fmt.Sprintf("no JSON %d", i) },
		func(i int) string { return fmt.Sprintf(`{"task_id": %d.5, "data": {}}`, i) },
		func(i int) string { return fmt.Sprintf(`{"data": {"n": %d}}`, i) },
		func(i int) string { return fmt.Sprintf("\u0085\ufffd\U0001f600 \x7f %d", i) },
		func(i int) string { return fmt.Sprintf(`["a list", %d]`, i) },
	}
	if j.binary {
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
	parts := map[any]map[int]string{} // by when it was told
	for _, e := range j.readEvents() {
		if e["task_id"] != nil {
			tasks++
			continue
		}
		message := messageOf(e)
		if e["event_type"] != "non_fatal_exception" || e["stack_trace"] == "" || message == "" {
			t.Errorf("%.300v", e)
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
		t.Errorf("%d tasks of %d; of %d that are none, %d in the queue and %d in the file", tasks, n, n, len(whole), len(inFile))
	}
	for body := range bad {
		if !whole[body] || !inFile[body] {
			t.Errorf("%.50q: in the queue %v, in the file %v", body, whole[body], inFile[body])
		}
	}
}

// messageOf is the message that an event tells of, which is no task; "" without one.
func messageOf(e map[string]any) string {
	if text, ok := e["message"].(string); ok {
		return text
	}
	text, _ := e["message_base64"].(string)
	raw, _ := base64.StdEncoding.DecodeString(text)
	return string(raw)
}

// While the queue of events is away, nothing is deleted that has not been told, and not
// much more is run; when it is back, each task has its event.
func TestQueueOfEventsIsAway(t *testing.T) { onEach(t, ofEventsIsAwayCase) }

func ofEventsIsAwayCase(t *testing.T, j *job) {
	const tasks, most = 600, 300
	j.load(tasks)
	j.do(0, "queue", "create", "--events")
	j.counter.Refuse(j.send, true)
	w := j.prepare("run", "-j", "4", "--idle-timeout", "2", "--", "sh", "-c", "echo >> started").start()
	started := func() int {
		b, _ := os.ReadFile(filepath.Join(j.dir, "started"))
		return len(b)
	}
	for last := -1; last < 10 || started() != last; { // until no more are run for two seconds
		last = started()
		<-time.After(2 * time.Second)
	}
	if n := j.counter.Of(j.remove); n > 0 || started() > most {
		t.Errorf("%d deletions while nothing was told, and %d tasks were run", n, started())
	}
	j.counter.Refuse(j.send, false)
	w.want(0)
	j.wantEmpty()
	if ids := idsOf(j.wantEvents(tasks)); len(ids) != tasks || started() != tasks {
		t.Errorf("events of %d tasks, and %d runs", len(ids), started())
	}
}

// Queues that deliver exactly once have their own names, and the same events.
func TestQueueExactlyOnce(t *testing.T) { onEach(t, exactlyOnceCase) }

func exactlyOnceCase(t *testing.T, j *job) {
	j.vars = append(j.vars, "RMS_CLOUD_TASKS_EXACTLY_ONCE_QUEUE=1")
	j.load(30)
	if j.fifo != "" {
		j.do(0, "load", "--task-file", "tasks.jsonl") // again: within five minutes they are the same
	}
	w := j.prepare("run", "-j", "4", "--idle-timeout", "4", "--", "/bin/true").start()
	w.want(0)
	w.wantError(`"queue":"jobs`+j.fifo+`"`, `"event_queue":"jobs-events`+j.fifo+`"`)
	if d := j.depth("jobs" + j.fifo); !isEmpty(d) {
		t.Errorf("%+v", d)
	}
	if events := j.readEvents(); len(events) != 30 || len(idsOf(events)) != 30 {
		t.Errorf("%d events", len(events))
	}
}

// A task that goes back too often for the queue's own redrive policy goes to the queue
// that this names.
func TestQueueRedrive(t *testing.T) { onEach(t, redriveCase) }

func redriveCase(t *testing.T, j *job) {
	j.redrive("dead", j.redrives)
	j.load(2)
	if in := j.do(1, "queue", "status"); !strings.Contains(in.stdout.String(), fmt.Sprintf("received %d times go to the queue dead", j.redrives)) || !strings.Contains(in.stdout.String(), "jobs-events  events  not there") {
		t.Errorf("%s", in.stdout.String())
	}
	j.do(0, "run", "--retry-on-exit", "--idle-timeout", "2", "--", "false")
	j.wantEvents(2 * j.redrives)
	if n := j.count("dead"); n != 2 {
		t.Errorf("%d tasks are in the other queue", n)
	}
}

// A worker that lives says so, to the queue of events alone.
func TestQueueKeepAlive(t *testing.T) { onEach(t, keepAliveCase) }

func keepAliveCase(t *testing.T, j *job) {
	j.load(1)
	j.do(0, "run", "--keepalive-interval", "0.5", "--event-log-to-file", "--idle-timeout", "1", "--", "sleep", "2")
	lives := 0
	hostname, _ := os.Hostname()
	for _, e := range j.readAllEvents() {
		if e["event_type"] == "keep_alive" {
			lives++
			if e["instance_id"] != hostname || e["hostname"] != hostname {
				t.Errorf("%v", e)
			}
		}
	}
	if lives < 3 || bytes.Contains(readFile(t, j.dir, "events.log"), []byte("keep_alive")) {
		t.Errorf("%d events", lives)
	}
}

// What ends a worker is told in the queue as well.
func TestQueueFatalException(t *testing.T) { onEach(t, fatalExceptionCase) }

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
		t.Errorf("%v", fatal)
	}
	j.wantTasks(1, 0)
}

// A task file may be run with its events going to the queue.
func TestEventsOfATaskFileToTheQueue(t *testing.T) { onEach(t, taskFileCase) }

func taskFileCase(t *testing.T, j *job) {
	write(t, j.dir, "tasks.json", `[{"task_id": "a", "data": {}}, {"task_id": "b", "data": {}}]`)
	j.do(0, "run", "--task-file", "tasks.json", "--event-log-to-queue", "--", "/bin/true")
	if events := j.readEvents(); len(events) != 2 || bytes.Count(readFile(t, j.dir, "events.log"), []byte("\n")) != 2 {
		t.Errorf("%v", events)
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
