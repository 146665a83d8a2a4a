package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/digest"
)

// conditions returns the conditions of the workers at a time, by run ID.
func conditions(s *State, at time.Time) map[string]Condition {
	v := s.Snapshot(at)
	all := map[string]Condition{}
	for _, w := range v.Workers {
		all[w.RunID] = w.Condition
	}
	return all
}

func running(interval float64) *digest.Digest {
	return &digest.Digest{Phase: digest.Running, Interval: interval, Slots: 2, Running: 1}
}

func TestWorker_Condition(t *testing.T) {
	t.Parallel()
	ended, draining := running(10), running(10)
	ended.Phase, draining.Phase = digest.Ended, digest.Draining
	notice := func(fields string) string {
		return line(5, "spot_termination", `"kind":"termination","action":"terminate",`+fields)
	}
	for name, c := range map[string]struct {
		lines []string
		at    float64
		want  Condition
	}{
		"alive":                         {[]string{alive(0, "r", running(10))}, 29, Running},
		"silent":                        {[]string{alive(0, "r", running(10))}, 30, Silent},
		"alive again":                   {[]string{alive(0, "r", running(10)), alive(40, "r", running(10))}, 41, Running},
		"ended":                         {[]string{alive(0, "r", running(10)), alive(5, "r", ended)}, 500, Ended},
		"ended, out of order":           {[]string{alive(5, "r", ended), alive(0, "r", running(10))}, 500, Ended},
		"draining":                      {[]string{alive(0, "r", draining)}, 1, Draining},
		"default interval":              {[]string{alive(0, "r", nil)}, 179, Running},
		"default interval, silent":      {[]string{alive(0, "r", nil)}, 180, Silent},
		"hostile interval":              {[]string{alive(0, "r", running(1e300))}, 2 * 86400, Running},
		"negative interval":             {[]string{alive(0, "r", running(-5))}, 1, Silent},
		"notice":                        {[]string{alive(0, "r", running(10)), notice(`"run_id":"r"`)}, 6, Draining},
		"notice before the keep_alive":  {[]string{notice(`"run_id":"r"`), alive(6, "r", running(10))}, 7, Draining},
		"terminated":                    {[]string{alive(0, "r", running(10)), notice(`"run_id":"r"`)}, 60, Terminated},
		"notice without a run ID":       {[]string{alive(0, "r", running(10)), notice(`"instance_id":"i-r"`)}, 6, Draining},
		"notice for another":            {[]string{alive(0, "r", running(10)), notice(`"run_id":"other","instance_id":"i-r"`)}, 60, Silent},
		"notice for another machine":    {[]string{alive(0, "r", running(10)), notice(`"instance_id":"i-other"`)}, 60, Silent},
		"ended after a notice":          {[]string{alive(0, "r", running(10)), notice(`"run_id":"r"`), alive(9, "r", ended)}, 60, Ended},
		"keep_alive in the far future":  {[]string{alive(1e6, "r", running(10))}, 5, Running},
		"keep_alive without timestamps": {[]string{`{"event_type":"keep_alive","run_id":"r","hostname":"host"}`}, 5, Silent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := conditions(replayed(c.lines...), after(c.at))["r"]; got != c.want {
				t.Errorf("condition %v, want %v", got, c.want)
			}
		})
	}
}

// The clock of a worker may differ from the clock of the monitor.
func TestWorker_ClockDiffers(t *testing.T) {
	t.Parallel()
	for name, skew := range map[string]float64{"slow": -600, "fast": 600} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New(-1)
			for n := 0.0; n <= 50; n += 10 {
				s.Apply([]byte(alive(n+skew, "r", running(10))), after(n))
			}
			if got := conditions(s, after(55))["r"]; got != Running {
				t.Errorf("condition %v while the worker sends keep_alive events", got)
			}
			if got := conditions(s, after(80))["r"]; got != Silent {
				t.Errorf("condition %v, 30 s after the last keep_alive event", got)
			}
		})
	}
}

// A worker that died before the monitor started is silent, even if its events only arrive now.
func TestWorker_Backlog(t *testing.T) {
	t.Parallel()
	s := New(-1)
	for n := 0.0; n < 100; n += 10 {
		s.Apply([]byte(alive(n, "r", running(10))), after(1000+n/100))
	}
	if got := conditions(s, after(1002))["r"]; got != Silent {
		t.Errorf("condition %v", got)
	}
}

// 1,000 workers send keep_alive events, and one of them stalls. It is named within three intervals.
func TestWorker_OneOfThousandStalls(t *testing.T) {
	t.Parallel()
	const workers, interval, stalledAt = 1000, 60.0, 400.0
	s := New(-1)
	for n := 0.0; n <= 900; n += 5 {
		for i := range workers {
			if int(n)%interval != i%12*5 || i == 417 && n > stalledAt {
				continue
			}
			s.Apply([]byte(alive(n, fmt.Sprintf("%016x", i), running(interval))), after(n))
		}
		v := s.Snapshot(after(n))
		silent := v.In(Silent)
		switch {
		case n < stalledAt+2*interval && len(silent) != 0:
			t.Fatalf("after %v s, %d workers are silent: %v", n, len(silent), silent[0].RunID)
		case n >= stalledAt+SilentIntervals*interval && (len(silent) != 1 || silent[0].RunID != fmt.Sprintf("%016x", 417)):
			t.Fatalf("after %v s, %d workers are silent", n, len(silent))
		case n > interval && len(v.Workers) != workers:
			t.Fatalf("%d workers", len(v.Workers))
		}
	}
}

func TestWorker_Name(t *testing.T) {
	t.Parallel()
	s := replayed(
		alive(0, "aaaaaaaaaa", nil), alive(0, "bbbbbbbbbb", nil),
		line(0, "keep_alive", `"instance_id":"host","run_id":"cccccccc"`), line(0, "keep_alive", `"run_id":"dddddddd"`),
		line(0, "keep_alive", ``),
	)
	v := s.Snapshot(start)
	var names []string
	for _, w := range v.Workers {
		names = append(names, w.Name())
	}
	got := strings.Join(names, ", ")
	if want := "host, i-aaaaaaaaaa (host), i-bbbbbbbbbb (host), host cccccc, host dddddd"; got != want {
		t.Errorf("names %s, want %s", got, want)
	}
	if v.WorkerCount != 5 {
		t.Errorf("%d workers", v.WorkerCount)
	}
}

func TestSnapshot_Slots(t *testing.T) {
	t.Parallel()
	ended := running(10)
	ended.Phase = digest.Ended
	s := replayed(alive(0, "a", running(10)), alive(0, "b", running(1000)), alive(0, "c", nil), alive(0, "d", ended), alive(100, "e", running(10)))
	v := s.Snapshot(after(100)) // "a" is silent
	if slots, n := v.Slots(); slots != 4 || n != 2 {
		t.Errorf("%d of %d slots, want 2 of 4", n, slots)
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	steady := func(every float64, n int) (lines []string) {
		for i := range n {
			lines = append(lines, done(float64(i+1)*every, fmt.Sprint(i), 1))
		}
		return lines
	}
	for name, c := range map[string]struct {
		lines    []string
		at       float64
		min, max float64
	}{
		"nothing":             {nil, 100, 0, 0},
		"one a second":        {steady(1, 300), 300, 0.98, 1.02},
		"at the start":        {steady(1, 5), 5, 0.9, 1.1},
		"one a minute":        {steady(60, 30), 1800, 1.0/60 - 0.001, 1.0/60 + 0.001},
		"one in half an hour": {steady(1800, 6), 10800, 1.9 / 3600, 3.1 / 3600},
		"soon after the end":  {steady(1, 300), 420, 0, 0.1},
		"long after the end":  {steady(1, 300), 5000, 0, 0},
		"in the future":       {[]string{done(1e5, "a", 1)}, 1, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := replayed(c.lines...).Snapshot(after(c.at))
			if v.Rate < c.min || v.Rate > c.max {
				t.Errorf("rate %v, want %v to %v", v.Rate, c.min, c.max)
			}
		})
	}
}

// A backlog of old events does not count as the current rate.
func TestRate_Backlog(t *testing.T) {
	t.Parallel()
	s := New(2000)
	for i := range 1000 {
		s.Apply([]byte(done(float64(i), fmt.Sprint(i), 1)), after(1001))
	}
	if v := s.Snapshot(after(1001)); v.Rate < 0.9 || v.Rate > 1.1 || v.TimeLeft < 900*time.Second || v.TimeLeft > 1100*time.Second {
		t.Errorf("rate %v, %v left; want 1 and 1000 s", v.Rate, v.TimeLeft)
	}
}

// Without a running worker, the remaining time is unknown.
func TestSnapshot_TimeLeftWithoutWorker(t *testing.T) {
	t.Parallel()
	s := replayed(loaded(0, "a", 100), done(1, "a", 1), alive(1, "r", running(10)))
	if v := s.Snapshot(after(2)); v.TimeLeft < 0 {
		t.Errorf("%v left, want a known time", v.TimeLeft)
	}
	if v := s.Snapshot(after(31)); v.TimeLeft >= 0 {
		t.Errorf("%v left although the only worker is silent", v.TimeLeft)
	}
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"2026-11-27T12:00:01.500000": after(1.5),
		"2026-11-27T12:00:01":        after(1),
		"2026-11-27T12:00:01.5Z":     after(1.5),
		"2026-11-27T13:00:01+01:00":  after(1),
		"yesterday":                  {},
		"":                           {},
		"2026-11-27T12:00:01.5" + fmt.Sprintf("%050d", 0): {},
	} {
		if got := parseTime(text); !got.Equal(want) {
			t.Errorf("parseTime(%q) = %v, want %v", text, got, want)
		}
		if got := timeOf([]byte(`{"timestamp":"` + text + `","x":1}`)); !got.Equal(want) {
			t.Errorf("timeOf(%q) = %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{``, `{`, `{"timestamp":"`, `{"hostname":"a"}`} {
		if got := timeOf([]byte(text)); !got.IsZero() {
			t.Errorf("timeOf(%s) = %v", text, got)
		}
	}
}
