package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ctworker/ctworker/internal/digest"
	"github.com/ctworker/ctworker/pipeline"
)

// start is when the jobs of the tests start.
var start = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

// after returns the time n seconds after start.
func after(n float64) time.Time { return start.Add(time.Duration(n * float64(time.Second))) }

// line returns an event n seconds after start. fields are further fields as JSON, without braces.
func line(n float64, eventType, fields string) string {
	text := fmt.Sprintf(`{"timestamp":"%s","hostname":"host","event_type":"%s"`, after(n).Format("2006-01-02T15:04:05.000000"), eventType)
	if fields != "" {
		text += "," + fields
	}
	return text + "}"
}

// done returns the event of a completed task.
func done(n float64, id string, attempt int) string {
	e := pipeline.Event{
		Time: after(n), Hostname: "host", Type: pipeline.TaskCompleted, TaskID: id, Attempt: attempt, RunID: "r1",
		Outcome: pipeline.Outcome{Kind: pipeline.Completed, Result: json.RawMessage("1")},
	}
	return string(e.AppendJSON(nil))
}

// failed returns the event of a task that exited with an exit code.
func failed(n float64, id string, attempt, code int, retry bool) string {
	return line(n, "task_exited", fmt.Sprintf(`"task_id":%q,"attempt":%d,"exit_code":%d,"retry":%v,"stderr_line":"bad input 17"`, id, attempt, code, retry))
}

// alive returns a keep_alive event.
func alive(n float64, runID string, d *digest.Digest) string {
	fields := fmt.Sprintf(`"run_id":%q,"instance_id":"i-%s","zone":"z1"`, runID, runID)
	if d != nil {
		fields += `,"worker":` + string(d.AppendJSON(nil))
	}
	return line(n, "keep_alive", fields)
}

func loaded(n float64, id string, count int) string {
	return line(n, "tasks_loaded", fmt.Sprintf(`"load_id":%q,"queue":"jobs","task_count":%d`, id, count))
}

// replayed returns the state of a job with these events.
func replayed(lines ...string) *State {
	s := New(-1)
	for _, l := range lines {
		_ = s.Replay([]byte(l)) // an event that is not accepted is missing in the state
	}
	return s
}

type counts struct {
	Total, Done, Failed, Retrying, Retries, Events, Repeated, Malformed int64
}

func countsOf(v Snapshot) counts {
	return counts{v.Total, v.Done(), v.Failed(), v.Retrying, v.Retries, v.Events, v.Repeated, v.Malformed}
}

func TestState_Tasks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lines []string
		want  counts
	}{
		"nothing":               {nil, counts{Total: -1}},
		"completed":             {[]string{loaded(0, "a", 2), done(1, "t1", 1), done(2, "t2", 1)}, counts{Total: 2, Done: 2, Events: 3}},
		"several loads":         {[]string{loaded(0, "a", 2), loaded(0, "b", 5)}, counts{Total: 7, Events: 2}},
		"load delivered twice":  {[]string{loaded(0, "a", 2), loaded(0, "a", 2)}, counts{Total: 2, Events: 2, Repeated: 1}},
		"load of repeated IDs":  {[]string{line(0, "tasks_loaded", `"load_id":"a","task_count":9,"distinct_task_count":4`)}, counts{Total: 4, Events: 1}},
		"hostile load":          {[]string{line(0, "tasks_loaded", `"load_id":"a","task_count":9e18`), line(0, "tasks_loaded", `"load_id":[],"task_count":-4`), loaded(0, "b", 1)}, counts{Total: 1, Events: 3, Repeated: 2}},
		"event delivered twice": {[]string{done(1, "t1", 1), done(1, "t1", 1)}, counts{Total: -1, Done: 1, Events: 2, Repeated: 1}},
		"executed twice":        {[]string{done(1, "t1", 1), done(9, "t1", 2)}, counts{Total: -1, Done: 1, Events: 2, Repeated: 1}},
		"failed":                {[]string{failed(1, "t1", 1, 3, false)}, counts{Total: -1, Done: 1, Failed: 1, Events: 1}},
		"retried":               {[]string{failed(1, "t1", 1, 3, true), failed(1, "t2", 1, 3, true), done(2, "t1", 2)}, counts{Total: -1, Done: 1, Retrying: 1, Retries: 2, Events: 3}},
		"retry out of order":    {[]string{done(2, "t1", 2), failed(1, "t1", 1, 3, true)}, counts{Total: -1, Done: 1, Events: 2, Repeated: 1}},
		"failed, then done":     {[]string{failed(1, "t1", 1, 3, false), done(2, "t1", 2)}, counts{Total: -1, Done: 1, Events: 2}},
		"unknown type":          {[]string{line(1, "something_new", `"task_id":"t1"`)}, counts{Total: -1, Events: 1}},
		"unknown fields":        {[]string{strings.Replace(done(1, "t1", 1), `"attempt"`, `"new":{"attempt":[7]},"attempt"`, 1)}, counts{Total: -1, Done: 1, Events: 1}},
		"wrong types": {
			[]string{`{"event_type":"task_exited","task_id":"t1","timestamp":5,"exit_code":"x","stderr_line":[1],"retry":false}`, `{"event_type":"keep_alive","hostname":{},"worker":[1,2]}`},
			counts{Total: -1, Done: 1, Failed: 1, Events: 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live := New(-1)
			for _, l := range c.lines {
				live.Apply([]byte(l), after(60))
			}
			if diff := cmp.Diff(c.want, countsOf(live.Snapshot(after(60)))); diff != "" {
				t.Errorf("live: %s", diff)
			}
			if diff := cmp.Diff(c.want, countsOf(replayed(c.lines...).Snapshot(after(60)))); diff != "" {
				t.Errorf("replayed: %s", diff)
			}
		})
	}
}

func TestState_Malformed(t *testing.T) {
	t.Parallel()
	s := New(-1)
	bad := []string{`"text"`, `{}`, `[1]`, `{"event_type":5}`, `{"task_id":"t1"}`, `not JSON`, `{"event_type":"task_completed","task_id":"t1"`}
	for _, l := range bad {
		s.Apply([]byte(l), after(1))
		if err := s.Replay([]byte(l)); err == nil {
			t.Errorf("Replay accepted %s", l)
		}
	}
	if v := s.Snapshot(after(1)); v.Malformed != int64(len(bad)) || v.Events != 0 || v.Done() != 0 {
		t.Errorf("%+v", v)
	}
}

func TestState_KnownTotal(t *testing.T) {
	t.Parallel()
	s := New(3)
	for _, l := range []string{loaded(0, "a", 100), done(1, "a", 1), done(1, "b", 1)} {
		s.Apply([]byte(l), after(2))
	}
	if v := s.Snapshot(after(2)); v.Total != 3 || v.Complete() {
		t.Errorf("total %d, complete %v", v.Total, v.Complete())
	}
	s.Apply([]byte(done(2, "c", 1)), after(3))
	if v := s.Snapshot(after(3)); !v.Complete() || !v.LastChange.Equal(after(3)) {
		t.Errorf("complete %v, last change %v", v.Complete(), v.LastChange)
	}
	if v := New(-1).Snapshot(start); v.Complete() {
		t.Error("a job whose number of tasks is unknown is complete")
	}
	if v := New(0).Snapshot(start); !v.Complete() {
		t.Error("a job without tasks is not complete")
	}
}

// A state that is rebuilt from the log of the events so far, and then receives the other events, some of them
// again, equals the state that received each event once.
func TestState_RestartInTheMiddle(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	lines := []string{loaded(0, "a", 100), loaded(0, "b", 100), line(3, "spot_termination", `"instance_id":"i-r1","run_id":"r1","kind":"termination","action":"terminate"`)}
	for i := range 200 {
		id := fmt.Sprint("t", i)
		if i%3 == 0 {
			lines = append(lines, failed(float64(i), id, 1, i%5, true))
		}
		if i%7 == 0 {
			lines = append(lines, failed(float64(i), id, 2, i%5, false))
		} else {
			lines = append(lines, done(float64(i), id, 2))
		}
		if i%20 == 0 {
			lines = append(lines, alive(float64(i), fmt.Sprint("r", i%40), &digest.Digest{Phase: digest.Running, Interval: 60, Slots: 4}))
		}
	}
	ignored := cmp.Options{
		cmpopts.IgnoreFields(Snapshot{}, "LastChange", "Events", "Repeated"), cmpopts.EquateEmpty(),
		cmpopts.SortSlices(func(a, b FailedTask) bool { return a.ID < b.ID }),
	}
	once := replayed(lines...).Snapshot(after(300))
	for range 20 {
		cut := r.IntN(len(lines))
		s := replayed(lines[:cut]...)
		for _, l := range lines[max(cut-50, 0):] { // 50 events were written but not deleted, and arrive again
			s.Apply([]byte(l), after(250))
		}
		got := s.Snapshot(after(300))
		if diff := cmp.Diff(once, got, ignored); diff != "" {
			t.Fatalf("restart after %d events: %s", cut, diff)
		}
		if want := once.Repeated + int64(min(cut, 50)); got.Repeated > want || got.Events != once.Events+int64(min(cut, 50)) {
			t.Errorf("restart after %d events: %d events, %d repeated", cut, got.Events, got.Repeated)
		}
	}
}

func TestState_Failures(t *testing.T) {
	t.Parallel()
	s := replayed(
		failed(1, "a", 1, 3, false), failed(1, "b", 1, 3, false), failed(1, "c", 1, 4, false),
		line(1, "task_exception", `"task_id":"d","exception":"Traceback (most recent call last)\n  File\nValueError: bad 5\u001b[31m"`),
		line(1, "task_timed_out", `"task_id":"e","attempt":1`),
		failed(1, "recovered", 1, 3, false), done(2, "recovered", 2),
	)
	v := s.Snapshot(after(3))
	want := []string{"3 exit code 3: bad input …", "1 ValueError: bad …\x1b[…m", "1 exceeded the maximum runtime", "1 exit code 4: bad input …"}
	var got []string
	for _, f := range v.Failures {
		got = append(got, fmt.Sprintf("%d %s", f.Count, f.Reason))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var ids []string
	for _, f := range v.FailedTasks {
		ids = append(ids, f.ID)
	}
	if strings.Join(ids, " ") != "a b c d e" {
		t.Errorf("failed tasks: %v", ids)
	}
}

// Memory is bounded even if every event has new texts.
func TestState_Limits(t *testing.T) {
	t.Parallel()
	s := New(-1)
	s.maxWorkers = 50
	long := strings.Repeat("x", 1<<12)
	for i := range 2000 {
		text := string(rune('a'+i%26)) + strings.Repeat(string(rune('a'+i/26%26)), i/676+1) + long
		s.Apply([]byte(line(float64(i), "task_exception", fmt.Sprintf(`"task_id":"t%d","attempt":1,"exception":%q`, i, text))), after(float64(i)))
		s.Apply([]byte(line(float64(i), "keep_alive", fmt.Sprintf(`"run_id":"%d%s","instance_id":%q,"zone":%q`, i, long, text, text))), after(float64(i)))
		s.Apply([]byte(line(float64(i), "spot_termination", fmt.Sprintf(`"run_id":"x%d","instance_id":%q`, i, text))), after(float64(i)))
	}
	v := s.Snapshot(after(2000))
	if len(v.Failures) > maxReasons+1 || len(v.Workers) > 50 || len(v.Notices) > maxNotices || len(v.FailedTasks) > maxFailedTasks {
		t.Errorf("%d reasons, %d workers, %d notices, %d failed tasks", len(v.Failures), len(v.Workers), len(v.Notices), len(v.FailedTasks))
	}
	if v.Exception != 2000 || v.WorkerCount != 2000 || v.NoticeCount != 2000 {
		t.Errorf("%d exceptions, %d workers, %d notices", v.Exception, v.WorkerCount, v.NoticeCount)
	}
	if v.Workers[0].Instance == "" || len(v.Workers[0].Instance) > maxName+3 || len(v.Workers[0].RunID) > maxName+3 {
		t.Errorf("a name has %d bytes", len(v.Workers[0].Instance))
	}
	last := false
	for _, w := range v.Workers {
		last = last || strings.HasPrefix(w.RunID, "1999x")
	}
	if !last {
		t.Error("the last worker was removed")
	}
}

func TestState_Fatal(t *testing.T) {
	t.Parallel()
	s := replayed(line(1, "fatal_exception", `"exception":"disk full"`), line(1, "non_fatal_exception", `"exception":"x","message":"y"`))
	if v := s.Snapshot(after(2)); v.Fatal != 1 || v.NonFatal != 1 || v.LastFatal.Reason != "disk full" || v.LastFatal.Host != "host" {
		t.Errorf("%+v", v)
	}
}

// The event that NewTasksLoadedEvent returns sets the total.
func TestNewTasksLoadedEvent(t *testing.T) {
	t.Parallel()
	s := New(-1)
	for _, n := range []int64{0, 3} {
		e := NewTasksLoadedEvent("jo\"bs", 5, n, "host", start)
		s.Apply(e.AppendJSON(nil), start)
	}
	if v := s.Snapshot(start); v.Total != 8 {
		t.Errorf("total %d, want 5 + 3", v.Total)
	}
	if err := errors.Join(s.Replay([]byte(loaded(0, "x", 1)))); err != nil {
		t.Error(err)
	}
}

func BenchmarkState_Replay(b *testing.B) {
	s := New(-1)
	for b.Loop() {
		for i := range 1000 {
			_ = s.Replay([]byte(done(float64(i), fmt.Sprint("task-", i), 1)))
		}
	}
}
