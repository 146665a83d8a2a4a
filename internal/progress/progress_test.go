package progress

import (
	"math"
	"testing"
	"time"
)

func TestEstimate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                          string
		received, skipped, read, size int64
		want                          int64
		ok                            bool
	}{
		{"nothing read", 0, 0, 0, 1000, 0, false},
		{"size unknown", 10, 0, 100, 0, 0, false},
		{"nothing received", 0, 5, 100, 1000, 0, false},
		{"a tenth", 10, 0, 100, 1000, 100, true},
		{"a tenth, half of it skipped", 10, 10, 200, 1000, 90, true},
		{"everything", 10, 0, 1000, 1000, 10, true},
		{"never fewer than there were", 10, 0, 1000, 500, 10, true},
		{"a thousand million", 1000, 0, 1 << 20, 1 << 40, 1_048_576_000, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got, ok := EstimateTotal(tc.received, tc.skipped, tc.read, tc.size); got != tc.want || ok != tc.ok {
				t.Errorf("got %d, %v, want %d, %v", got, ok, tc.want, tc.ok)
			}
		})
	}
}

// clock is the clock of a meter. The test advances it.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestMeter(t *testing.T) {
	t.Parallel()
	steady := func(perSecond float64) func(time.Duration) int64 {
		return func(at time.Duration) int64 { return int64(perSecond * at.Seconds()) }
	}
	for _, tc := range []struct {
		name  string
		every time.Duration // between two looks
		at    time.Duration // of the last one
		done  func(time.Duration) int64
		total int64
		rate  float64 // within one per cent
		left  time.Duration
	}{
		{"no time has passed", time.Second, 0, steady(10), 100, 0, -1},
		{"steady", 150 * time.Millisecond, 20 * time.Second, steady(10), 1000, 10, 80 * time.Second},
		{"total unknown", time.Second, 20 * time.Second, steady(10), 0, 10, -1},
		{"more than the total", time.Second, 20 * time.Second, steady(10), 150, 10, 0},
		{"nothing done", time.Second, 5 * time.Minute, steady(0), 100, 0, -1},
		{
			"a rate that has changed", time.Second, 10 * time.Minute,
			func(at time.Duration) int64 {
				return int64(2*at.Seconds()) + int64(8*max(at-9*time.Minute, 0).Seconds())
			},
			2180, 10, 50 * time.Second, // 1680 are done
		},
		{"slow tasks", time.Second, time.Hour, steady(1.0 / 60), 120, 1.0 / 60, time.Hour},
		{"looks rarer than the window", 45 * time.Second, 30 * time.Minute, steady(2), 7200, 2, 30 * time.Minute},
		{"longer than a life", time.Second, time.Minute, steady(1), math.MaxInt64, 1, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := &clock{}
			m := NewMeter(c.now)
			var rate float64
			var remaining time.Duration
			for at := time.Duration(0); at <= tc.at; at += tc.every {
				c.at = time.Time{}.Add(at)
				rate, remaining = m.Add(Status{Done: tc.done(at), Total: tc.total})
			}
			if math.Abs(rate-tc.rate) > 0.01*tc.rate {
				t.Errorf("rate is %v, want %v", rate, tc.rate)
			}
			if off := remaining - tc.left; off.Abs() > max(tc.left/50, 0) {
				t.Errorf("left is %v, want %v", remaining, tc.left)
			}
		})
	}
}

// The rate and the remaining time change once a second. A run of any length needs little memory.
func TestMeterSamples(t *testing.T) {
	t.Parallel()
	c := &clock{}
	m := NewMeter(c.now)
	changes, last := 0, 0.0
	for i := range int64(40_000) { // 100 minutes
		c.at = c.at.Add(150 * time.Millisecond)
		rate, _ := m.Add(Status{Done: i * i / 10_000})
		if rate != last {
			changes++
		}
		last = rate
		if len(m.samples) > 100 {
			t.Fatalf("%d samples are kept", len(m.samples))
		}
	}
	if changes > 6000 {
		t.Errorf("the rate changed %d times in 6000 seconds", changes)
	}
	quiet := NewMeter(c.now)
	for range 40_000 {
		c.at = c.at.Add(150 * time.Millisecond)
		quiet.Add(Status{Done: 3})
	}
	if len(quiet.samples) > 4 {
		t.Errorf("%d samples are kept where nothing changes", len(quiet.samples))
	}
}
