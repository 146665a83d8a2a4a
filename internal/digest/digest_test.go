package digest

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDigest_MaxSize(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]string{
		"control characters": strings.Repeat("\x00", 5000),
		"quotation marks":    strings.Repeat(`"\`, 5000),
		"HTML":               strings.Repeat("<script>", 5000),
		"invalid UTF-8":      strings.Repeat("\xff", 5000),
		"wide":               strings.Repeat("\u2028", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const large = math.MaxInt64
			d := Digest{
				Phase: Draining, Interval: -1.7976931348623157e308, Slots: large, Running: -large, Completed: -large, Exception: -large, TimedOut: -large, Exited: -large,
				Retried: -large, Rate: math.MaxFloat64 / 3, P50: -1.234567e-300, P99: math.Inf(1), CPU: math.NaN(), MemoryUsed: -large, MemoryTotal: -large, TaskPeakMemory: -large,
				Version: version,
			}
			text := d.AppendJSON(nil)
			if len(text) > MaxSize {
				t.Errorf("%d bytes, want at most %d: %s", len(text), MaxSize, text)
			}
			var back Digest
			if err := json.Unmarshal(text, &back); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDigest_RoundTrip(t *testing.T) {
	t.Parallel()
	d := Digest{
		Phase: Running, Interval: 60, Slots: 16, Running: 12, Completed: 12345, Exception: 4, TimedOut: 3, Exited: 2, Retried: 1,
		Rate: 12.34, P50: 0.00123, P99: 98.77, CPU: 97.5, MemoryUsed: 1 << 33, MemoryTotal: 1 << 34, TaskPeakMemory: 1 << 28, Version: "1.2.3",
	}
	text := d.AppendJSON([]byte("x"))
	want := `x{"phase":"running","interval_seconds":60,"slots":16,"running":12,"completed":12345,"exception":4,"timed_out":3,"exited":2,"retried":1,` +
		`"tasks_per_second":12.34,"p50_seconds":0.00123,"p99_seconds":98.77,"cpu_percent":97.5,"memory_used_bytes":8589934592,"memory_total_bytes":17179869184,` +
		`"task_peak_memory_bytes":268435456,"version":"1.2.3"}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	var back Digest
	if err := json.Unmarshal(text[1:], &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, back); diff != "" {
		t.Error(diff)
	}
	if back.Done() != 12354 || back.NotCompleted() != 9 {
		t.Errorf("%d done, %d not completed", back.Done(), back.NotCompleted())
	}
}

func TestRounded(t *testing.T) {
	t.Parallel()
	for in, want := range map[float64]float64{0: 0, 1.0 / 3: 0.3333, 12345.678: 12346, 1e15: 1e15, 0.000012345: 0.00001235, -1: -1, math.Inf(-1): 0} {
		if got := rounded(in); got != want {
			t.Errorf("rounded(%v) = %v, want %v", in, got, want)
		}
	}
	if got := rounded(math.NaN()); got != 0 {
		t.Errorf("rounded(NaN) = %v", got)
	}
}

func TestMachine_CPU(t *testing.T) {
	t.Parallel()
	var m Machine
	for _, c := range []struct {
		stat string
		want float64
	}{
		{"cpu  100 0 100 800 0 0 0 0 50 50\ncpu0 1 2", -1}, // there is no earlier value
		{"cpu  140 0 110 840 10 0 0 0 90 60\n", 50},
		{"cpu  140 0 110 840 10 0 0 0 90 60\n", -1}, // no time has passed
		{"", -1},
		{"cpu x 0 110 840 10 0 0 0 90 60\n", -1},
		{"cpu 1\n", -1},
		{"cpu  240 0 110 840 10 0 0 0\n", 100},
		{"cpu  1 0 1 8 1 0 0 0\n", -1}, // the counters were reset
	} {
		if got := m.cpu([]byte(c.stat)); got != c.want {
			t.Errorf("cpu(%q) = %v, want %v", c.stat, got, c.want)
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		meminfo     string
		used, total int64
	}{
		{"MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    6000 kB\n", 10000 << 10, 16000 << 10},
		{"MemTotal:       16000 kB\n", 16000 << 10, 16000 << 10},
		{"MemTotal: 1 kB\nMemAvailable: 2 kB\n", 0, 0},
		{"MemTotal: many kB\nMemAvailable: 2 kB\n", 0, 0},
		{"", 0, 0},
	} {
		if used, total := memory([]byte(c.meminfo)); used != c.used || total != c.total {
			t.Errorf("memory(%q) = %d, %d, want %d, %d", c.meminfo, used, total, c.used, c.total)
		}
	}
}
