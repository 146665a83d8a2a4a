package joblog_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/joblog"
	"github.com/ctworker/ctworker/pipeline"
)

func TestFormatter_Columns(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_795_744_308_000)
	outcome := func(o pipeline.Outcome) pipeline.Outcome { o.Elapsed = 2_250_900 * time.Microsecond; return o }
	for name, tc := range map[string]struct {
		event pipeline.EventType
		id    string
		out   pipeline.Outcome
		want  string // columns from Receive on
	}{
		"completed":       {pipeline.TaskCompleted, "a b", pipeline.Outcome{Result: json.RawMessage(`"é\n"`)}, "3 0 0 a b"},
		"number":          {pipeline.TaskCompleted, "a", pipeline.Outcome{Result: json.RawMessage(`123`)}, "3 0 0 a"},
		"no result":       {pipeline.TaskCompleted, "a", pipeline.Outcome{}, "0 0 0 a"},
		"bytes":           {pipeline.TaskCompleted, "a", pipeline.Outcome{RawResult: []byte{255, 254}}, "2 0 0 a"},
		"retry requested": {pipeline.TaskCompleted, "a", pipeline.Outcome{RetryRequested: true}, "0 75 0 a"},
		"exit code":       {pipeline.TaskExited, "a", pipeline.Outcome{ExitCode: 3}, "0 3 0 a"},
		"killed":          {pipeline.TaskExited, "a", pipeline.Outcome{ExitCode: -9}, "0 0 9 a"},
		"timed out":       {pipeline.TaskTimedOut, "a", pipeline.Outcome{}, "0 -1 15 a"},
		"exception":       {pipeline.TaskException, "a", pipeline.Outcome{Exception: "x"}, "0 1 0 a"},
		"control":         {pipeline.TaskException, "\t\n\r\x00\x1f\x7f\\tä", pipeline.Outcome{}, `0 1 0 \t\n\r\x00\x1f\x7f\\tä`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f joblog.Formatter
			line, ok := f.Format([]byte("x"), &pipeline.Event{Time: at, Type: tc.event, TaskID: tc.id, Outcome: outcome(tc.out)})
			rest := strings.Join(strings.SplitN(tc.want, " ", 4), "\t")
			if want := "x1\t:\t1795744305.749\t     2.250\t0\t" + rest; !ok || string(line) != want {
				t.Errorf("line %q, %v, want %q", line, ok, want)
			}
			if columns := strings.Count(string(line), "\t"); columns != strings.Count(joblog.Header, "\t") {
				t.Errorf("%d tabs", columns)
			}
		})
	}
}

// The column Seq counts the lines. Events that do not report a task have no line.
func TestFormatter_Seq(t *testing.T) {
	t.Parallel()
	var f joblog.Formatter
	var text string
	for _, kind := range []pipeline.EventType{pipeline.TaskExited, pipeline.KeepAlive, pipeline.FatalException, pipeline.TaskCompleted} {
		if line, ok := f.Format(nil, &pipeline.Event{Type: kind}); ok {
			text += string(line[:2])
		} else if len(line) > 0 {
			t.Errorf("%s: %q", kind, line)
		}
	}
	if text != "1\t2\t" {
		t.Errorf("lines start with %q", text)
	}
}

// The job log writes an event without calling Withheld, because another sink may have written the event.
func TestSink_IgnoresWithheld(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "jobs.log")
	sink, err := joblog.Open(t.Context(), path, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	asked := false
	events := []pipeline.Event{
		{Type: pipeline.TaskExited, TaskID: "a"},
		{Type: pipeline.TaskExited, TaskID: "b", Withheld: func() bool { asked = true; return true }},
	}
	if err := sink.Write(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), "\n") != 3 || !strings.HasPrefix(string(text), joblog.Header+"\n") {
		t.Errorf("job log %q, error %v", text, err)
	}
	if asked || events[1].Withheld == nil {
		t.Errorf("Withheld was called: %v, and removed from the event of the caller: %v", asked, events[1].Withheld == nil)
	}
}
