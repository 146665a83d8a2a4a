package progress

import "time"

// A Status is the progress of a run.
type Status struct {
	// Done is the number of tasks with an event, Failed is the number of tasks in Done that did not
	// complete, and Running is the number of tasks that have been fetched and have not ended.
	Done, Failed, Running int64
	// Memory is the resident memory of the processes of the running tasks, in bytes; 0 if it is unknown.
	Memory int64
	// Earlier is the number of tasks in Done that an earlier run has done.
	Earlier int64
	// Waiting is the number of tasks that wait for a retry.
	Waiting int64
	// Unreported is the number of ended tasks whose events have not been written yet.
	Unreported int64
	// Total is the number of tasks in the run; 0 if it is unknown. Estimated reports whether
	// it is an estimate.
	Total     int64
	Estimated bool
	// Moves is "tasks" or "events" if a command transfers tasks or events; "" for a run.
	Moves string
}

// EstimateTotal estimates Status.Total from the part of the input that has been read. The input has
// size bytes, and its first read bytes contain the received and the skipped tasks. ok is false if
// there is no basis for an estimate.
func EstimateTotal(received, skipped, read, size int64) (total int64, ok bool) {
	if read <= 0 || size <= 0 || received <= 0 {
		return 0, false
	}
	all := float64(received+skipped) * float64(size) / float64(read)
	return max(int64(all)-skipped, received), true
}

// The rate is the average over rateWindow, or over a longer time if fewer than rateTasks tasks
// ended in rateWindow. The rate is therefore steady, but still follows changes.
const (
	rateWindow = 30 * time.Second
	rateTasks  = 10
	// updateInterval is how often the rate is recalculated. A number that changes more often
	// is hard to read.
	updateInterval = time.Second
)

// A Meter calculates the rate and the remaining time from statuses. It is not safe for concurrent
// use.
type Meter struct {
	now       func() time.Time
	samples   []sample // oldest first; the value of done increases
	at        time.Time
	rate      float64 // at that time
	remaining time.Duration
}

type sample struct {
	at   time.Time
	done int64
}

// NewMeter returns a Meter for a run that starts now.
func NewMeter(now func() time.Time) *Meter {
	began := now()
	return &Meter{now: now, samples: []sample{{at: began}}, at: began, remaining: -1}
}

// Add adds a status. It returns the rate in tasks per second, and the remaining time, which is
// negative if it is unknown.
func (m *Meter) Add(s Status) (rate float64, remaining time.Duration) {
	now := sample{m.now(), s.Done - s.Earlier}
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

// timeLeft returns the remaining time. It is negative if it is unknown or more than ten years.
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
