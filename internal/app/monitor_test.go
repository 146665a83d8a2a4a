package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/fleet"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

// An event is applied only if it is durable.
func TestApplyingWriter_FullDisk(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	for _, want := range []error{nil, full} {
		state := fleet.New(2)
		w := applyingWriter{lines: writerFunc(func([][]byte) error { return want }), state: state}
		err := w.WriteLines(t.Context(), [][]byte{[]byte(`{"event_type":"task_completed","task_id":"a","retry":false}`), []byte(`"x"`)})
		v := state.Snapshot(noon)
		if !errors.Is(err, want) || (v.Done() == 1) != (want == nil) || (v.Malformed == 1) != (want == nil) {
			t.Errorf("error %v, %d done, %d malformed", err, v.Done(), v.Malformed)
		}
	}
}

type writerFunc func([][]byte) error

func (f writerFunc) WriteLines(_ context.Context, lines [][]byte) error { return f(lines) }

// Each alert is logged once, and again if the condition has ended and returns.
func TestAlerts(t *testing.T) {
	t.Parallel()
	worker := func(c fleet.Condition) []fleet.Worker {
		return []fleet.Worker{{Host: "h", Instance: "i", RunID: "r", Condition: c, LastSeen: noon}}
	}
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	notices := []fleet.Notice{{Host: "h", Action: "terminate"}, {Host: "h2", Action: "terminate"}}
	var out bytes.Buffer
	a := alerts{log: zerolog.New(&out), known: map[string]bool{}}
	for i, c := range []struct {
		v    fleet.Snapshot
		want string // the start of the messages, separated by commas
	}{
		{fleet.Snapshot{At: at(1), Total: -1, Workers: worker(fleet.Running)}, ""},
		{fleet.Snapshot{At: at(2), Total: -1, Workers: worker(fleet.Silent)}, "worker is silent"},
		{fleet.Snapshot{At: at(3), Total: -1, Workers: worker(fleet.Silent)}, ""},
		{fleet.Snapshot{At: at(4), Total: -1, Workers: worker(fleet.Running)}, "worker is no longer silent"},
		{fleet.Snapshot{At: at(5), Total: -1, Workers: worker(fleet.Silent)}, "worker is silent"},
		{fleet.Snapshot{At: at(6), Total: -1}, "worker is no longer silent"},
		{fleet.Snapshot{At: at(7), Total: -1, Notices: notices[:1], NoticeCount: 1}, "a worker has received a termination notice"},
		{fleet.Snapshot{At: at(8), Total: -1, Notices: notices[:1], NoticeCount: 1}, ""},
		{fleet.Snapshot{At: at(9), Total: -1, Notices: notices, NoticeCount: 7}, "a worker has received,a worker has received"},
		{fleet.Snapshot{At: at(60), Total: -1, NoticeCount: 7}, "the number of tasks is unknown"},
		{fleet.Snapshot{At: at(61), Total: -1, NoticeCount: 7}, ""},
		{fleet.Snapshot{At: at(200), Total: 5, NoticeCount: 7, WorkerCount: 1, Workers: worker(fleet.Ended)}, "no worker is running"},
		{fleet.Snapshot{At: at(201), Total: 5, NoticeCount: 7, WorkerCount: 1, Workers: worker(fleet.Ended)}, ""},
		{fleet.Snapshot{At: at(202), Total: 5, NoticeCount: 7, WorkerCount: 1, Workers: worker(fleet.Running)}, ""},
		{fleet.Snapshot{At: at(203), Total: 5, NoticeCount: 7, WorkerCount: 1, Workers: worker(fleet.Ended), LastChange: at(100)}, ""},
		{fleet.Snapshot{At: at(300), Total: 5, NoticeCount: 7, WorkerCount: 1, Workers: worker(fleet.Ended), LastChange: at(100)}, "no worker is running"},
	} {
		out.Reset()
		a.check(&c.v, noon, true)
		got := strings.Count(out.String(), "\n")
		var want []string
		if c.want != "" {
			want = strings.Split(c.want, ",")
		}
		if got != len(want) {
			t.Errorf("step %d: want %q, logged %s", i, want, out.String())
		}
		for _, text := range want {
			if !strings.Contains(out.String(), `"message":"`+text) {
				t.Errorf("step %d: want %q, logged %s", i, text, out.String())
			}
		}
	}
}

// Log lines are kept while a screen is shown, and old ones are dropped.
func TestHeldLog(t *testing.T) {
	t.Parallel()
	var h heldLog
	if h.last() != "" {
		t.Errorf("last line %q", h.last())
	}
	_, _ = h.Write([]byte("\x1b[90m12:00\x1b[0m one\n\x1b[31mtwo\x1b[0m\n"))
	if h.last() != "two" || h.dropped {
		t.Errorf("last line %q, dropped %v", h.last(), h.dropped)
	}
	long := strings.Repeat("x", 1000)
	for i := range 1000 {
		_, _ = fmt.Fprintf(&h, "%d %s\n", i, long)
	}
	if n := h.b.Len(); n > maxHeldLog || n < maxHeldLog-2000 || !h.dropped || !strings.HasPrefix(h.last(), "999 ") {
		t.Errorf("%d bytes, dropped %v, last line %.10q", n, h.dropped, h.last())
	}
	if !strings.HasSuffix(h.b.String(), long+"\n") || strings.HasPrefix(h.b.String(), "x") {
		t.Error("a line was cut")
	}
}
