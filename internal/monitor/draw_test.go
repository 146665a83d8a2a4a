package monitor

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"github.com/ctworker/ctworker/internal/digest"
	"github.com/ctworker/ctworker/internal/fleet"
	"github.com/ctworker/ctworker/internal/journal"
)

var update = flag.Bool("update", false, "write the golden files") //nolint:gochecknoglobals // a flag

var now = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

// escape is a Printable for tests.
func escape(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return '?'
		}
		return r
	}, text)
}

// busy returns the snapshot of a job with n workers.
func busy(n int) *fleet.Snapshot {
	v := &fleet.Snapshot{
		At: now, Total: 100_000, Completed: 51_000, Exception: 1000, TimedOut: 200, Exited: 34, Retrying: 7, Retries: 90,
		Rate: 123.4, TimeLeft: 387 * time.Second, Events: 52_500, WorkerCount: int64(n),
		Failures: []fleet.Failure{
			{Kind: journal.Exception, Reason: "ValueError: unexpected value … in column …", Count: 1000},
			{Kind: journal.TimedOut, Reason: "exceeded the maximum runtime", Count: 200},
			{Kind: journal.Exited, Reason: "exit code 3: bad input", Count: 20}, {Kind: journal.Exited, Reason: "killed by signal 9", Count: 10},
			{Kind: journal.Exited, Reason: "exit code 1: 図形が不正です図形が不正です図形が不正です図形が不正です図形が不正です図形が不正です図形が不正です", Count: 4},
		},
		Notices: []fleet.Notice{{At: now.Add(-90 * time.Second), Host: "worker-2", Instance: "i-0000000000000002", Action: "terminate"}}, NoticeCount: 1,
	}
	for i := range n {
		w := fleet.Worker{
			Host: fmt.Sprint("worker-", i), Instance: fmt.Sprintf("i-%016d", i), Zone: "us-east-1a", RunID: fmt.Sprintf("%016x", i),
			Condition: fleet.Running, LastSeen: now.Add(-time.Duration(i%60) * time.Second),
			Digest: &digest.Digest{
				Phase: digest.Running, Interval: 60, Slots: 16, Running: 16, Completed: int64(12_000 - i), Exception: int64(i % 11), Rate: 30.5 - float64(i%7),
				P50: 0.0123, P99: 1.5, CPU: 97.3, MemoryUsed: 3 << 30, MemoryTotal: 8 << 30, Version: "0.1.0-dev",
			},
		}
		switch i {
		case 1:
			w.Condition, w.LastSeen = fleet.Silent, now.Add(-200*time.Second)
		case 2:
			w.Condition, w.Digest.Phase, w.Digest.Running = fleet.Draining, digest.Draining, 3
		case 3:
			w.Condition, w.Digest.Phase, w.Digest.Running, w.Digest.CPU = fleet.Ended, digest.Ended, 0, -1
		case 4:
			w.Digest, w.Zone, w.Instance = nil, "", w.Host
		}
		v.Workers = append(v.Workers, w)
	}
	return v
}

// hostile returns a snapshot in which every text contains escape sequences and line breaks.
func hostile() *fleet.Snapshot {
	const text = "\x1b[2J\x1b]0;title\x07\nline\ttab\u202e\x9b31m\x00" + "\xff"
	v := busy(3)
	v.Failures[0].Reason, v.LastFatal, v.Fatal = text, fleet.Fatal{Host: text, Reason: text}, 1
	v.Notices[0].Host, v.Notices[0].Instance = text, text
	for i := range v.Workers {
		w := &v.Workers[i]
		w.Host, w.Instance, w.Zone, w.Digest.Version = text, text+"2", text, text
	}
	return v
}

func TestDraw_Golden(t *testing.T) {
	t.Parallel()
	unknown := busy(5)
	unknown.Total, unknown.TimeLeft = -1, -1
	complete := busy(4)
	complete.Completed, complete.Total = 98_766, 100_000
	empty := &fleet.Snapshot{At: now, Total: -1, TimeLeft: -1}
	for name, c := range map[string]struct {
		v *fleet.Snapshot
		o View
	}{
		"80x24":       {busy(30), View{Width: 80, Height: 24}},
		"120x40":      {busy(30), View{Width: 120, Height: 40}},
		"wide":        {busy(30), View{Width: 300, Height: 20}},
		"small":       {busy(30), View{Width: 30, Height: 8}},
		"unknown":     {unknown, View{Hint: "give --total N or --task-file FILE"}},
		"complete":    {complete, View{Width: 80, Height: 24}},
		"empty":       {empty, View{Width: 80, Height: 24}},
		"help":        {busy(30), View{Width: 80, Height: 24, Help: true}},
		"filter":      {busy(30), View{Width: 80, Height: 24, Filter: "WORKER-1", Editing: true}},
		"by failures": {busy(30), View{Width: 80, Height: 24, Sort: ByFailed, Message: "12:00:00 WRN a very long message that does not fit into the last line"}},
		"scrolled":    {busy(30), View{Width: 80, Height: 24, Offset: 1000}},
		"color":       {busy(6), View{Width: 80, Height: 24, Color: true}},
		"hostile":     {hostile(), View{Width: 120, Height: 24, Message: "\x1b[2J\nmessage"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.o.Job, c.o.Elapsed, c.o.Printable = "images", 754*time.Second, escape
			got := Draw(c.v, c.o)
			checkSize(t, got, c.o)
			path := filepath.Join("testdata", strings.ReplaceAll(name, " ", "_")+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got+"\n" != string(want) {
				t.Errorf("the screen differs from %s; to accept it, run: go test ./internal/monitor -update\n%s", path, got)
			}
		})
	}
}

// checkSize checks that a screen fits and contains no control characters except styles.
func checkSize(t *testing.T, text string, o View) {
	t.Helper()
	width, height := o.Width, o.Height
	if width == 0 {
		width, height = unknownWidth, unknownHeight
	}
	lines := strings.Split(text, "\n")
	if len(lines) != height {
		t.Errorf("%d lines, want %d", len(lines), height)
	}
	for _, l := range lines {
		if n := ansi.StringWidth(l); n > width {
			t.Errorf("a line has %d columns, want at most %d: %q", n, width, l)
		}
		if !o.Color && strings.IndexFunc(l, unicode.IsControl) >= 0 {
			t.Errorf("a line contains a control character: %q", l)
		}
	}
}

// The screen fits every size of a terminal.
func TestDraw_Sizes(t *testing.T) {
	t.Parallel()
	for _, v := range []*fleet.Snapshot{busy(0), busy(40), hostile(), {At: now}} {
		for _, width := range []int{1, 2, 5, 10, 20, 40, 79, 80, 81, 100, 132, 200} {
			for _, height := range []int{1, 2, 3, 5, 8, 10, 15, 24, 60} {
				for _, help := range []bool{false, true} {
					o := View{Width: width, Height: height, Help: help, Color: true, Job: "images", Printable: escape}
					checkSize(t, Draw(v, o), o)
				}
			}
		}
	}
}

// 100 % is shown only if all tasks are done.
func TestDraw_Percent(t *testing.T) {
	t.Parallel()
	for done, want := range map[int64]string{0: " 0.0 %", 99_999: " 99.9 %", 100_000: " 100.0 %", 200_000: " 100.0 %"} {
		v := &fleet.Snapshot{At: now, Total: 100_000, Completed: done}
		if got := Draw(v, View{Printable: escape}); !strings.Contains(got, want) {
			t.Errorf("%d of 100000: no %q in\n%s", done, want, got)
		}
	}
}

func TestDraw_Filter(t *testing.T) {
	t.Parallel()
	for filter, want := range map[string]int{"": 30, "silent": 1, "WORKER-29": 1, "us-east": 29, "0.1.0": 29, "nothing": 0} {
		o := View{Filter: filter}
		v := busy(30)
		if got := len(o.selected(v)); got != want {
			t.Errorf("filter %q: %d workers, want %d", filter, got, want)
		}
	}
}

func TestDraw_Order(t *testing.T) {
	t.Parallel()
	for order, want := range map[Order]string{ByCondition: "worker-0", ByName: "worker-0", ByFailed: "worker-10", ByRate: "worker-4"} {
		o := View{Sort: order}
		if got := o.selected(busy(30))[0].Host; got != want {
			t.Errorf("by %v: first %s, want %s", order, got, want)
		}
		if order.String() == "" {
			t.Errorf("order %d has no name", order)
		}
	}
}

func BenchmarkDraw_ThousandWorkers(b *testing.B) {
	v := busy(1000)
	for b.Loop() {
		Draw(v, View{Width: 120, Height: 40, Printable: escape})
	}
}
