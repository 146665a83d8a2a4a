package pipeline_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/rawjson/rawjsontest"
	"github.com/ctworker/ctworker/pipeline"
)

var at = time.Date(2025, 5, 26, 3, 56, 26, 321172999, time.FixedZone("x", 7200))

func TestEvent_AppendJSON(t *testing.T) {
	t.Parallel()
	d := pipeline.NewDelivery(pipeline.Task{ID: `a"b`}, nil, 2)
	base := pipeline.Outcome{Slot: 3, Elapsed: 1500 * time.Millisecond}
	with := func(f func(*pipeline.Outcome)) pipeline.Outcome { o := base; f(&o); return o }
	head := `{"timestamp":"2025-05-26T01:56:26.321172","hostname":"host","event_type":`
	for _, tc := range []struct {
		name    string
		outcome pipeline.Outcome
		verdict pipeline.Verdict
		want    string
	}{
		{
			"completed", with(func(o *pipeline.Outcome) {
				o.Kind, o.Result = pipeline.Completed, []byte("{\n \"big\": 12345678901234567890, \"f\":1e400}")
				o.Usage = &pipeline.Usage{CPU: 20 * time.Millisecond, PeakMemory: 4096}
			}), pipeline.Ack,
			head + `"task_completed","task_id":"a\"b","elapsed_time":1.5,"retry":false,"result":{"big":12345678901234567890,"f":1e400},"attempt":2,"slot":3,"usage":{"cpu_seconds":0.02,"peak_memory_bytes":4096}}`,
		},
		{
			"completed without UTF-8", with(func(o *pipeline.Outcome) { o.Kind, o.RawResult = pipeline.Completed, []byte{0xff, 0} }), pipeline.Retry,
			head + `"task_completed","task_id":"a\"b","elapsed_time":1.5,"retry":true,"result_base64":"/wA=","attempt":2,"slot":3}`,
		},
		{
			"exception", with(func(o *pipeline.Outcome) { o.Kind, o.Exception = pipeline.Exception, "line\nline" }), pipeline.Retry,
			head + `"task_exception","task_id":"a\"b","elapsed_time":1.5,"retry":true,"exception":"line\nline","attempt":2,"slot":3}`,
		},
		{
			"timed out", with(func(o *pipeline.Outcome) { o.Kind = pipeline.TimedOut }), pipeline.Ack,
			head + `"task_timed_out","task_id":"a\"b","elapsed_time":1.5,"retry":false,"attempt":2,"slot":3}`,
		},
		{
			"exited", with(func(o *pipeline.Outcome) { o.Kind, o.ExitCode = pipeline.Exited, -9 }), pipeline.Ack,
			head + `"task_exited","task_id":"a\"b","elapsed_time":1.5,"exit_code":-9,"retry":false,"attempt":2,"slot":3}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e, ok := pipeline.NewTaskEvent(pipeline.Decision{Delivery: d, Outcome: tc.outcome, Verdict: tc.verdict}, "host", at)
			if !ok {
				t.Fatal("NewTaskEvent returned no event")
			}
			if got := string(e.AppendJSON(nil)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestEvent_KeepsJSONUnchanged(t *testing.T) {
	t.Parallel()
	for _, value := range rawjsontest.Corpus() {
		d := pipeline.NewDelivery(pipeline.Task{ID: "caf\xed\xb3\xa9"}, nil, 1)
		e, ok := pipeline.NewTaskEvent(pipeline.Decision{Delivery: d, Outcome: pipeline.Outcome{Kind: pipeline.Completed, Result: []byte(value)}, Verdict: pipeline.Ack}, "h", at)
		got := string(e.AppendJSON(nil))
		if want := `"task_id":"caf\udce9","elapsed_time":0,"retry":false,"result":` + value + `,"attempt"`; !ok || !strings.Contains(got, want) {
			t.Errorf("%.300s has no %.100s", got, want)
		}
		if got, want := string(pipeline.Task{ID: "caf\xed\xb3\xa9", Data: []byte(value)}.AppendJSON(nil)), `{"task_id":"caf\udce9","data":`+value+`}`; got != want {
			t.Errorf("the task is %.200s, want %.200s", got, want)
		}
	}
}

func TestEventTime(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		at   time.Time
		want string
	}{
		{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "2026-01-02T03:04:05.000000"},
		{time.Date(2026, 1, 2, 3, 4, 5, 999_999_999, time.UTC), "2026-01-02T03:04:05.999999"},
		{time.Date(2026, 1, 2, 3, 4, 6, 7_000, time.UTC), "2026-01-02T03:04:06.000007"},
		{time.Date(2026, 1, 2, 3, 4, 5, 120_000_000, time.UTC), "2026-01-02T03:04:05.120000"}, // the second of the first case, which is no longer cached
		{time.Date(1969, 12, 31, 23, 59, 59, 500_000_000, time.UTC), "1969-12-31T23:59:59.500000"},
	} {
		e := pipeline.Event{Time: tc.at}
		if got := string(e.AppendJSON(nil)); !strings.HasPrefix(got, `{"timestamp":"`+tc.want+`",`) {
			t.Errorf("got %s, want the time %s", got, tc.want)
		}
	}
}

func TestEvent_TrivialResults(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"true": "true", "null": "null", "0": "0", "42": "42", "{}": "{}", `""`: `""`,
		"-1": "-1", "1.5": "1.5", "123456789012345678901": "123456789012345678901",
		"01": `"01"`, "1 2": `"1 2"`, "1}": `"1}"`, "tru": `"tru"`, "": "null", " 7 ": "7",
	} {
		e := pipeline.Event{Type: pipeline.TaskCompleted, Outcome: pipeline.Outcome{Result: []byte(in)}}
		if got := string(e.AppendJSON(nil)); !strings.Contains(got, `"result":`+want+`,"attempt"`) {
			t.Errorf("%q: got %s, want the result %s", in, got, want)
		}
	}
}

func TestNewTaskEvent_UnreportedOutcomes(t *testing.T) {
	t.Parallel()
	for _, kind := range []pipeline.OutcomeKind{pipeline.Interrupted, pipeline.LeaseLost, 0} {
		j := pipeline.Decision{
			Delivery: pipeline.NewDelivery(pipeline.Task{ID: "x"}, nil, 1),
			Outcome:  pipeline.Outcome{Kind: kind}, Verdict: pipeline.Release,
		}
		if e, ok := pipeline.NewTaskEvent(j, "host", at); ok {
			t.Errorf("%v: got event %+v, want none", kind, e)
		}
	}
}

func TestEvent_FatalException(t *testing.T) {
	t.Parallel()
	e := pipeline.Event{
		Time: at, Hostname: "h", Type: pipeline.FatalException, Exception: "x", StackTrace: "y",
		Extra: []pipeline.Field{{Name: "zone", Value: json.RawMessage(`"a"`)}},
	}
	want := `{"timestamp":"2025-05-26T01:56:26.321172","hostname":"h","event_type":"fatal_exception","exception":"x","stack_trace":"y","zone":"a"}`
	if got := string(e.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Each byte of a task ID that is not valid UTF-8 becomes U+FFFD in the event.
func TestEvent_InvalidUTF8InID(t *testing.T) {
	t.Parallel()
	d := pipeline.NewDelivery(pipeline.Task{ID: "a\xff\xfeb"}, nil, 1)
	e, _ := pipeline.NewTaskEvent(pipeline.Decision{Delivery: d, Outcome: pipeline.Outcome{Kind: pipeline.TimedOut}, Verdict: pipeline.Ack}, "h", at)
	if got := string(e.AppendJSON(nil)); !strings.Contains(got, "\"task_id\":\"a\ufffd\ufffdb\"") {
		t.Errorf("event %s", got)
	}
}

// An event is one line of valid JSON, whatever the result of the task is.
func FuzzEventIsOneLineOfJSON(f *testing.F) {
	f.Add("id", "result", "exception")
	f.Add("\xff\n", "{\"a\":\n1}", "\u2028\x00")
	f.Add("", "{", "\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, id, result, exception string) {
		d := pipeline.NewDelivery(pipeline.Task{ID: id}, nil, 1)
		for _, o := range []pipeline.Outcome{
			{Kind: pipeline.Completed, Result: []byte(result)},
			{Kind: pipeline.Exception, Exception: exception},
		} {
			e, _ := pipeline.NewTaskEvent(pipeline.Decision{Delivery: d, Outcome: o, Verdict: pipeline.Ack}, id, at)
			got := e.AppendJSON(nil)
			if strings.ContainsAny(string(got), "\n\r") || !json.Valid(got) || !utf8.Valid(got) {
				t.Fatalf("event is %q", got)
			}
		}
	})
}

func TestErrorTrace(t *testing.T) {
	t.Parallel()
	cause := errors.New("no space left")
	chain := pipeline.ErrorTrace(fmt.Errorf("event log: %w", cause))
	if lines := strings.Split(chain, "\n"); !strings.Contains(lines[0], "event log: no space left") || !strings.HasSuffix(lines[1], ": no space left") {
		t.Errorf("chain %q", chain)
	}
	p := &pipeline.StageError{Stage: "x", Err: &pipeline.PanicError{Value: "boom", Stack: []byte("goroutine 1")}}
	if got := pipeline.ErrorTrace(p); got != "goroutine 1" {
		t.Errorf("stack %q", got)
	}
}
