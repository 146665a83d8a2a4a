package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/digest"
)

// monitored is the last log line of "ctworker monitor".
type monitored struct {
	Message   string `json:"message"`
	Done      int    `json:"done"`
	Failed    int    `json:"failed"`
	Total     *int   `json:"total"`
	Completed int    `json:"completed"`
	Silent    int    `json:"silent"`
	Workers   int    `json:"workers"`
	Slots     int    `json:"slots"`
	Events    int    `json:"events"`
	Repeated  int    `json:"repeated_events"`
	Malformed int    `json:"malformed"`
	Complete  bool   `json:"complete"`
	Continue  string `json:"continue_with"`
}

// monitored returns the summary of a monitor.
func (in *invocation) monitored() (m monitored) {
	in.t.Helper()
	for line := range strings.SplitSeq(in.stderr.String(), "\n") {
		var one monitored
		if json.Unmarshal([]byte(line), &one) == nil && one.Message == "monitor ended" {
			m = one
		}
	}
	if m.Message == "" {
		in.t.Fatalf("no summary; stderr:\n%s", in.stderr.String())
	}
	return m
}

// awaitText waits until standard error contains a text.
func (in *invocation) awaitText(text string) {
	in.t.Helper()
	limit := time.After(testTimeout)
	for {
		all, grown := in.stderr.growth()
		if strings.Contains(all, text) {
			return
		}
		select {
		case <-grown:
		case <-in.exited:
			if !strings.Contains(in.stderr.String(), text) {
				in.t.Fatalf("exited without %q; stderr:\n%s", text, in.stderr.String())
			}
		case <-limit:
			in.t.Fatalf("%q is missing after %v; stderr:\n%s", text, testTimeout, in.stderr.String())
		}
	}
}

// logEvents returns the events in a file.
func (j *job) logEvents(name string) (all []map[string]any) {
	j.t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(readFile(j.t, j.dir, name)))
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

// Four workers run a job. One of them is killed, and the monitor is ended and started again. The monitor
// names the killed worker, counts each task once, and ends by itself when all tasks are done.
func TestMonitor_KilledWorkerAndRestart(t *testing.T) { onEach(t, monitorKilledCase) }

func monitorKilledCase(t *testing.T, j *job) {
	tasks := taskCount(120, 1000)
	j.countAttempts()
	j.load(tasks)
	first := j.prepare("monitor", "--until-complete").start()
	b := j.recordStarts()
	args := append([]string{"-j", "2", "--lease", "5", "--keepalive-interval", "1", "--idle-timeout", "600"}, b.command(`sleep 0.1; case $CTWORKER_TASK_ID in t*9) exit 4; esac`)...)
	var workers []*worker
	for i := range 4 {
		workers = append(workers, j.work(fmt.Sprint("w", i), args...))
	}
	awaitStarts := func(n int) {
		limit := time.After(testTimeout)
		for started, _ := b.counts(); started < n; started, _ = b.counts() {
			select {
			case <-b.added:
			case <-limit:
				t.Fatalf("%d tasks have started after %v", started, testTimeout)
			}
		}
	}
	awaitStarts(tasks / 3)
	workers[0].signal(syscall.SIGKILL)
	<-workers[0].exited
	diedAt := time.Now().UTC()
	if isFullSize() { // the queue delivers the events that the monitor has received again after a minute
		first.signal(syscall.SIGKILL)
		<-first.exited
	} else {
		first.signal(syscall.SIGTERM)
		first.want(143)
	}
	second := j.prepare("monitor", "--until-complete").start()
	second.want(app.ExitStrict)
	stopWorkers(workers[1:])

	m := second.monitored()
	failed := tasks / 10 // t9, t19, …
	if m.Total == nil || *m.Total != tasks || m.Done != tasks || m.Failed != failed || m.Completed != tasks-failed || !m.Complete || m.Silent != 1 {
		t.Errorf("summary %+v, want %d tasks, %d failed and 1 silent worker", m, tasks, failed)
	}
	silent := map[any]bool{} // on a busy machine, a worker that is alive can be silent for a while
	for line := range strings.SplitSeq(second.stderr.String(), "\n") {
		if strings.Contains(line, "worker is silent") {
			var w map[string]any
			if err := json.Unmarshal([]byte(line), &w); err != nil {
				t.Fatal(err)
			}
			silent[w["run_id"]] = true
		}
	}
	lastEvent := map[any]time.Time{}
	ids := map[string]bool{}
	for _, e := range j.logEvents("events.log") {
		if id, ok := e["task_id"].(string); ok {
			ids[id] = true
		}
		text, _ := e["timestamp"].(string)
		at, err := time.Parse("2006-01-02T15:04:05.999999", text)
		if err != nil {
			t.Fatalf("event %v: %v", e, err)
		}
		if at.After(lastEvent[e["run_id"]]) {
			lastEvent[e["run_id"]] = at
		}
	}
	if len(ids) != tasks {
		t.Errorf("events of %d tasks in the log, want %d", len(ids), tasks)
	}
	for run, at := range lastEvent {
		if run != nil && at.Before(diedAt) && !silent[run] {
			t.Errorf("the silent workers are %v, but the last event of %s is at %v, and the killed worker died at %v", silent, run, at, diedAt)
		}
	}
	j.do(app.ExitStrict, "monitor", "--until-complete") // nothing is left to do
}

// A monitor of 1,000 workers names the one that has stalled.
func TestMonitor_ThousandWorkers(t *testing.T) { onEach(t, monitorThousandCase) }

func monitorThousandCase(t *testing.T, j *job) {
	const workers, stalled, tasks = 1000, 417, 2000
	var bodies []string
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000")
	for i := range workers {
		d := digest.Digest{Phase: digest.Running, Interval: 3600, Slots: 16, Running: 16, Completed: int64(i), Version: "1.0"}
		if i == stalled {
			d.Interval = 1
		}
		bodies = append(bodies, fmt.Sprintf(`{"timestamp":%q,"hostname":"ip-10-0-0-%d","event_type":"keep_alive","run_id":"%016x","instance_id":"i-%d","zone":"us-east-1a","worker":%s}`, now, i, i, i, d.AppendJSON(nil)))
	}
	for i := range tasks {
		bodies = append(bodies, fmt.Sprintf(`{"timestamp":%q,"hostname":"ip-10-0-0-%d","event_type":"task_completed","task_id":"t%d","elapsed_time":1,"retry":false,"result":null,"attempt":1,"run_id":"%016x"}`, now, i%workers, i, i%workers))
	}
	j.publish("jobs-events", bodies...)
	j.publish("jobs")
	in := j.prepare("monitor", "--total", fmt.Sprint(tasks+1)).start()
	in.awaitText("worker is silent")
	j.await("jobs-events", testTimeout, isEmpty)
	in.signal(syscall.SIGINT)
	in.want(app.ExitOK)
	silent := 0
	for line := range strings.SplitSeq(in.stderr.String(), "\n") {
		if strings.Contains(line, "worker is silent") {
			silent++
			if !strings.Contains(line, fmt.Sprintf(`"instance":"i-%d"`, stalled)) {
				t.Errorf("unexpected silent worker: %s", line)
			}
		}
	}
	if m := in.monitored(); silent != 1 || m.Silent != 1 || m.Workers != workers-1 || m.Slots != 16*(workers-1) || m.Done != tasks || m.Events != workers+tasks {
		t.Errorf("%d silent workers in the log; summary %+v", silent, m)
	}
	if usage, ok := in.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		t.Logf("%v of CPU, at most %d KiB of memory", in.cmd.ProcessState.UserTime()+in.cmd.ProcessState.SystemTime(), usage.Maxrss)
	}
}

// Several loads add up. A total on the command line or a task file overrides them.
func TestMonitor_Total(t *testing.T) { onEach(t, monitorTotalCase) }

func monitorTotalCase(t *testing.T, j *job) {
	j.load(5)
	j.do(0, "load", "--task-file", "tasks.jsonl", "--tasks-to-skip", "2", "--max-num-tasks", "3")
	write(t, j.dir, "repeated.jsonl", strings.Repeat(`{"task_id":"t1","data":{}}`+"\n", 4))
	j.do(0, "load", "--task-file", "repeated.jsonl")
	total := func(want int, args ...string) {
		in := j.prepare(append([]string{"monitor"}, args...)...).start()
		in.awaitText(`"collecting the events of the job"`)
		if len(args) == 0 {
			j.await("jobs-events", testTimeout, isEmpty)
		}
		in.signal(syscall.SIGINT)
		in.want(app.ExitOK)
		if m := in.monitored(); m.Total == nil || *m.Total != want {
			t.Errorf("monitor %v: summary %+v, want a total of %d", args, m, want)
		}
	}
	total(9) // 5 + 3 + 1 different ID
	total(9) // from the log
	total(77, "--total", "77", "--task-file", "tasks.jsonl")
	total(5, "--task-file", "tasks.jsonl")
	total(1, "--task-file", "repeated.jsonl")
}

// Messages that are not events are kept in the log, and do not prevent the end.
func TestMonitor_MalformedEvents(t *testing.T) { onEach(t, monitorMalformedCase) }

func monitorMalformedCase(t *testing.T, j *job) {
	j.publish("jobs-events", "not JSON", `{"half":`, `[1,2]`, `{"event_type":"task_completed"}`, `{"event_type":"keep_alive","hostname":["\u001b[2J"],"worker":5,"unknown":{}}`,
		`{"event_type":"task_completed","task_id":"t0","retry":false}`, `{"event_type":"task_completed","task_id":"t0","retry":false}`,
		`{"event_type":"task_exception","task_id":"t1","retry":false,"exception":"\u001b[2Jevil"}`)
	j.load(2)
	in := j.do(app.ExitStrict, "monitor", "--until-complete")
	if m := in.monitored(); m.Done != 2 || m.Failed != 1 || m.Malformed != 3 || m.Repeated != 1 {
		t.Errorf("summary %+v", m)
	}
	log := string(readFile(t, j.dir, "events.log"))
	for _, want := range []string{"\"not JSON\"\n", `"{\"half\":"` + "\n", "[1,2]\n"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not contain %q:\n%s", want, log)
		}
	}
	text := j.do(app.ExitStrict, "monitor", "--until-complete", "--log-format", "console").stderr.String()
	if !strings.Contains(text, `\u001b[2Jevil`) || strings.ContainsRune(text, '\x1b') {
		t.Errorf("escape sequences are not neutralized:\n%q", text)
	}
	if !strings.Contains(text, "complete: all 2 tasks have a final event") || !strings.Contains(text, "ctworker failed events.log") {
		t.Errorf("no summary:\n%s", text)
	}
}

// An interrupted monitor that waits for the end has the exit code of the signal, and explains how to continue.
func TestMonitor_Interrupted(t *testing.T) { onEach(t, monitorInterruptedCase) }

func monitorInterruptedCase(t *testing.T, j *job) {
	j.load(2)
	in := j.prepare("monitor", "--until-complete", "--event-log-file", "my log").start()
	in.awaitText(`"collecting the events of the job"`)
	in.signal(syscall.SIGTERM)
	in.want(143)
	if m := in.monitored(); m.Complete || !strings.HasSuffix(m.Continue, "monitor --until-complete --event-log-file 'my log'") {
		t.Errorf("summary %+v", m)
	}
}
