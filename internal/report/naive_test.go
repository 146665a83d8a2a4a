package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeAttempt is an attempt of a random log.
type fakeAttempt struct {
	id, host, kind string
	slot           int
	start, end     time.Time
	retry          bool
	memory         int64
}

func (a *fakeAttempt) line() string {
	b, _ := json.Marshal(map[string]any{
		"timestamp": a.end.Format("2006-01-02T15:04:05.000000"), "hostname": a.host, "event_type": "task_" + a.kind, "task_id": a.id,
		"elapsed_time": a.end.Sub(a.start).Seconds(), "retry": a.retry, "slot": a.slot, "attempt": 1, "run_id": "r",
		"exit_code": 3, "usage": map[string]any{"cpu_seconds": 0.5, "peak_memory_bytes": a.memory},
	})
	return string(b)
}

// randomLog returns attempts in the order of their ends. Attempts of a slot do not overlap.
func randomLog(r *rand.Rand, n, hosts, slots int, scale time.Duration) []fakeAttempt {
	free := map[[2]int]time.Time{}
	base := time.Date(2026, 11, 23, 8, 48, 6, 495_375_000, time.UTC)
	all := make([]fakeAttempt, n)
	for i := range all {
		at := [2]int{r.IntN(hosts), r.IntN(slots)}
		start := free[at]
		if start.IsZero() {
			start = base
		}
		start = start.Add(time.Duration(r.ExpFloat64() * float64(scale) * 0.1)).Truncate(time.Microsecond)
		end := start.Add(time.Duration(math.Exp(r.NormFloat64()) * float64(scale))).Truncate(time.Microsecond)
		free[at] = end
		kind := []string{"completed", "completed", "completed", "exception", "exited", "timed_out"}[r.IntN(6)]
		all[i] = fakeAttempt{
			id: fmt.Sprintf("t%d", i), host: fmt.Sprintf("h%d", at[0]), slot: at[1], kind: kind, start: start, end: end,
			retry: kind != "completed" && r.IntN(2) == 0, memory: int64(math.Exp(r.NormFloat64())*1e8) + 1,
		}
	}
	slices.SortStableFunc(all, func(a, b fakeAttempt) int { return a.end.Compare(b.end) })
	return all
}

// build returns the report of a log.
func build(t *testing.T, opts Options, lines ...string) *Report {
	t.Helper()
	b := NewBuilder(opts)
	damage, err := b.Read(t.Context(), strings.NewReader(strings.Join(lines, "\n")+"\n"))
	if err != nil || damage.Count > 0 {
		t.Fatalf("read: %v, damage %+v", err, damage)
	}
	return b.Report()
}

func TestReport_EqualsNaiveComputation(t *testing.T) {
	t.Parallel()
	for seed, tc := range []struct {
		n, hosts, slots int
		scale           time.Duration
	}{
		{1, 1, 1, time.Second},
		{50, 1, 1, 10 * time.Millisecond},
		{400, 3, 4, time.Second},
		{3000, 2, 8, time.Minute},
		{5000, 7, 30, time.Hour}, // more attempts than the timeline shows individually
		{6000, 2, 2000, 20 * time.Second},
		{4000, 600, 2, time.Minute},
	} {
		t.Run(fmt.Sprintf("%d attempts on %d hosts with %d slots", tc.n, tc.hosts, tc.slots), func(t *testing.T) {
			t.Parallel()
			log := randomLog(rand.New(rand.NewPCG(uint64(seed), 1)), tc.n, tc.hosts, tc.slots, tc.scale)
			lines := make([]string, len(log))
			for i := range log {
				lines[i] = log[i].line()
			}
			r := build(t, Options{Price: 0.5}, lines...)
			compareTotals(t, r, log)
			compareLists(t, r, log)
			compareTimeline(t, r, log)
		})
	}
}

func compareTotals(t *testing.T, r *Report, log []fakeAttempt) {
	t.Helper()
	var want Outcomes
	busy, capacity := 0.0, 0.0
	type window struct {
		from, to time.Time
		slots    map[int]bool
	}
	windows := map[string]*window{}
	for _, a := range log {
		switch {
		case a.retry:
			want.Retried++
		case a.kind == "completed":
			want.Completed++
		case a.kind == "exception":
			want.Exception++
		case a.kind == "exited":
			want.Exited++
		default:
			want.TimedOut++
		}
		busy += a.end.Sub(a.start).Seconds()
		w := windows[a.host]
		if w == nil {
			w = &window{a.start, a.end, map[int]bool{}}
			windows[a.host] = w
		}
		if a.start.Before(w.from) {
			w.from = a.start
		}
		if a.end.After(w.to) {
			w.to = a.end
		}
		w.slots[a.slot] = true
	}
	machine := 0.0
	for _, w := range windows {
		capacity += w.to.Sub(w.from).Seconds() * float64(len(w.slots))
		machine += w.to.Sub(w.from).Seconds()
	}
	if r.Summary.AttemptsBy != want {
		t.Errorf("outcomes %+v, want %+v", r.Summary.AttemptsBy, want)
	}
	near(t, "busy time", r.Summary.BusySeconds, busy, 1e-6)
	near(t, "capacity", r.Summary.CapacitySeconds, capacity, 1e-6)
	near(t, "machine time", r.Summary.MachineSeconds, machine, 1e-6)
	if c := r.Cost; c == nil {
		t.Error("no costs")
	} else {
		near(t, "cost", c.Total, machine/3600*0.5, 1e-6)
		near(t, "parts of the cost", c.Useful+c.Failed+c.Retried+c.Interrupted+c.Idle, c.Total, 1e-6)
	}
	var sum Outcomes
	inBuckets := 0.0
	for _, b := range r.Time.Buckets {
		sum.add(b.Outcomes)
		inBuckets += b.BusySlots * r.Time.BucketSeconds
		if b.Slots < b.BusySlots*(1-1e-9) {
			t.Errorf("bucket %v has %v slots, of which %v are busy", b.Start, b.Slots, b.BusySlots)
		}
	}
	if sum != want {
		t.Errorf("the buckets contain %+v, want %+v", sum, want)
	}
	near(t, "busy time in buckets", inBuckets, busy, 1e-6)
	if len(r.Time.Buckets) > maxBuckets {
		t.Errorf("%d buckets", len(r.Time.Buckets))
	}
}

func compareLists(t *testing.T, r *Report, log []fakeAttempt) {
	t.Helper()
	sorted := slices.Clone(log)
	slices.SortStableFunc(sorted, func(a, b fakeAttempt) int { return cmp.Compare(b.memory, a.memory) })
	for i, a := range r.Largest {
		if a.TaskID != sorted[i].id || a.MemoryBytes != sorted[i].memory {
			t.Errorf("place %d in memory: %+v, want %+v", i, a, sorted[i])
		}
	}
	slices.SortStableFunc(sorted, func(a, b fakeAttempt) int { return cmp.Compare(b.end.Sub(b.start), a.end.Sub(a.start)) })
	if want := min(shownTop, len(log)); len(r.Slowest) != want || len(r.Largest) != want {
		t.Errorf("%d slowest and %d largest attempts, want %d", len(r.Slowest), len(r.Largest), want)
	}
	for i, a := range r.Slowest {
		near(t, "run time in the list", a.Seconds, sorted[i].end.Sub(sorted[i].start).Seconds(), 1e-6)
	}
	d := r.Duration
	for q, got := range map[float64]float64{0.5: d.P50, 0.9: d.P90, 0.95: d.P95, 0.99: d.P99, 0.999: d.P999} {
		rank := int(math.Ceil(q * float64(len(sorted))))
		a := sorted[len(sorted)-rank]
		near(t, fmt.Sprintf("quantile %v", q), got, a.end.Sub(a.start).Seconds(), 0.025)
	}
	n := int64(0)
	for _, b := range d.Bars {
		n += b.Count
	}
	if n != int64(len(log)) || d.Count != n || len(d.Bars) > maxBars {
		t.Errorf("%d values in %d bars, count %d, want %d", n, len(d.Bars), d.Count, len(log))
	}
	counts := map[string]int64{}
	for _, a := range log {
		if a.kind != "completed" {
			counts[a.kind]++
		}
	}
	for _, f := range r.Failures {
		if counts[f.Outcome] != f.Count {
			t.Errorf("%d attempts in the group %s, want %d", f.Count, f.Outcome, counts[f.Outcome])
		}
	}
	if len(r.Failures) != len(counts) {
		t.Errorf("%d groups, want %d", len(r.Failures), len(counts))
	}
}

func compareTimeline(t *testing.T, r *Report, log []fakeAttempt) {
	t.Helper()
	if len(r.timeline.rows) > maxRows {
		t.Errorf("%d rows", len(r.timeline.rows))
	}
	busy, ended, slots := int64(0), int64(0), int64(0)
	for _, row := range r.timeline.rows {
		slots += row.slots
		for _, a := range row.attempts {
			busy += a.end - a.start
			ended++
		}
		for _, bins := range row.bins {
			for _, b := range bins {
				busy += b.busy
				if b.busy > row.slots*r.Time.width {
					t.Errorf("row %s: %d of %d busy", row.label, b.busy, row.slots*r.Time.width)
				}
				for _, n := range b.n {
					ended += n
				}
			}
		}
	}
	want := int64(0)
	distinct := map[string]bool{}
	for _, a := range log {
		want += a.end.Sub(a.start).Microseconds()
		distinct[fmt.Sprint(a.host, a.slot)] = true
	}
	if ended != int64(len(log)) || slots != int64(len(distinct)) {
		t.Errorf("the timeline has %d attempts and %d slots, want %d and %d", ended, slots, len(log), len(distinct))
	}
	near(t, "busy time in the timeline", float64(busy), float64(want), 1e-6)
	if exact := len(log) <= maxExact && len(distinct) <= maxRows; exact != r.timeline.exact {
		t.Errorf("exact is %v, want %v", r.timeline.exact, exact)
	}
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance*math.Abs(want)+1e-6*math.Max(1, math.Abs(want)) || math.IsNaN(got) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
