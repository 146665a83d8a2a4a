package progress

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// A Status is how far a run has come.
type Status struct {
	// Done is how many tasks have an event, Failed is how many of them did not complete, and
	// Running is how many have been fetched and have not ended.
	Done, Failed, Running int64
	// Unreported is how many tasks have ended whose events have not been written yet.
	Unreported int64
	// Total is how many tasks there will be, 0 where nobody knows. Where it is
	// an estimate, Estimated is set.
	Total     int64
	Estimated bool
	// Moves is what a command that runs no tasks moves, "tasks" or "events"; "" for a run.
	Moves string
}

// Estimate fills in Total from how much of the input has been read: received
// tasks beside the skipped ones took read of size bytes.
func EstimateTotal(received, skipped, read, size int64) (total int64, ok bool) {
	if read <= 0 || size <= 0 || received <= 0 {
		return 0, false
	}
	all := float64(received+skipped) * float64(size) / float64(read)
	return max(int64(all)-skipped, received), true
}

// The rate looks back far enough to be steady and not so far as to hide a change:
// over rateWindow, and longer for slow tasks, so that rateTasks have ended in it.
const (
	rateWindow = 30 * time.Second
	rateTasks  = 10
	// rateInterval is how often it is worked out anew: a figure that changes
	// more often cannot be read.
	updateInterval = time.Second
)

// meter turns statuses into a rate and a time left. It is not safe for use by
// several goroutines.
type meter struct {
	now       func() time.Time
	samples   []sample // oldest first, each with more done than the one before
	at        time.Time
	rate      float64 // at that time
	remaining time.Duration
}

type sample struct {
	at   time.Time
	done int64
}

func newMeter(now func() time.Time) *meter {
	began := now()
	return &meter{now: now, samples: []sample{{at: began}}, at: began, remaining: -1}
}

// add takes a status and returns tasks a second, and the time left, which is
// negative where it cannot be told.
func (m *meter) add(s Status) (rate float64, remaining time.Duration) {
	now := sample{m.now(), s.Done}
	if now.at.Sub(m.at) < updateInterval {
		return m.rate, m.remaining
	}
	m.at = now.at
	if now.done > m.samples[len(m.samples)-1].done {
		m.samples = append(m.samples, now)
	}
	for len(m.samples) > 2 && now.at.Sub(m.samples[1].at) >= rateWindow && now.done-m.samples[1].done >= rateTasks {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	m.rate = float64(now.done-first.done) / now.at.Sub(first.at).Seconds()
	m.remaining = timeLeft(s, m.rate)
	return m.rate, m.remaining
}

// timeLeft is negative where it cannot be told, or is ten years or more.
func timeLeft(s Status, rate float64) time.Duration {
	if s.Total <= 0 || rate <= 0 {
		return -1
	}
	seconds := float64(max(s.Total-s.Done, 0)) / rate
	if seconds > (10 * 365 * 24 * time.Hour).Seconds() {
		return -1
	}
	return time.Duration(seconds * float64(time.Second))
}

// Rate formats a number of tasks a second with three digits or so.
func FormatRate(r float64) string {
	switch {
	case r >= 99.95:
		return strconv.FormatFloat(r, 'f', 0, 64)
	case r >= 9.995:
		return strconv.FormatFloat(r, 'f', 1, 64)
	case r >= 0.095 || r < 0.000001:
		return strconv.FormatFloat(r, 'f', 2, 64)
	default: // a task an hour is 0.00028
		return strconv.FormatFloat(r, 'f', 1-int(math.Floor(math.Log10(r))), 64)
	}
}

// Duration formats d for people: 2.5s, 3m20s, 4h05m, 3d2h.
func FormatDuration(d time.Duration) string {
	seconds := int64(d.Round(time.Second).Seconds())
	switch {
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case seconds < 60:
		return fmt.Sprintf("%ds", seconds)
	case seconds < 60*60:
		return fmt.Sprintf("%dm%02ds", seconds/60, seconds%60)
	case seconds < 48*60*60:
		return fmt.Sprintf("%dh%02dm", seconds/3600, seconds/60%60)
	default:
		return fmt.Sprintf("%dd%dh", seconds/86400, seconds/3600%24)
	}
}
