package stages

import (
	"sync"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// A Stats counts what came of tasks. The zero value is ready, and may be read
// while it counts.
type Stats struct {
	mu       sync.Mutex
	counts   Counts
	taken    histogram
	reported spans // numbers of the tasks with an event; see pipeline.Delivery.Number
}

// Counts are a Stats's numbers.
type Counts struct {
	Completed, Exception, TimedOut, Exited int64
	// Interrupted are the tasks that a shutdown ended, and LeaseLost those
	// that the source took back: nobody was told of either.
	Interrupted, LeaseLost int64
	// SettleFailed is the number of tasks that could not be acknowledged or released. They
	// are delivered again.
	SettleFailed int64
	// Retry are the tasks that were told of and whose verdict was to try
	// again.
	Retried int64
	// CPU is the time that the tasks' processes used, PeakMemory the largest
	// of them in bytes.
	CPU        time.Duration
	PeakMemory int64
}

// Told is the number of tasks that an event tells of.
func (c Counts) Reported() int64 { return c.Completed + c.Exception + c.TimedOut + c.Exited }

// Failed is the number of tasks that were told of and did not complete.
func (c Counts) NotCompleted() int64 { return c.Exception + c.TimedOut + c.Exited }

// Counts returns the numbers so far.
func (t *Stats) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts
}

// Latency is the time within which the given share of the tasks that were told of was
// done, from being received to being told of: 0.5 is the median. It is exact to an
// eighth, and 0 where no task has been told of.
func (t *Stats) LatencyQuantile(share float64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken.quantile(share)
}

// add counts what has been told of at a time.
func (t *Stats) add(batch []pipeline.Decision, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range batch {
		j := &batch[i]
		t.counts.add(j)
		if k := j.Outcome.Kind; k == pipeline.Interrupted || k == pipeline.LeaseLost || j.ReceivedAt().IsZero() {
			continue // nobody was told of it
		}
		t.taken.add(now.Sub(j.ReceivedAt()))
		t.reported.add(j.Number())
	}
}

// failed counts a task that could not be settled.
func (t *Stats) failed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.SettleFailed++
}

// Prefix returns the length of the longest unbroken sequence of deliveries with events that
// begins at delivery start, counted from 0. Tasks finish in any order, so deliveries after the
// sequence may have events as well.
func (t *Stats) Prefix(start int64) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reported.after(start) - start
}

func (c *Counts) add(j *pipeline.Decision) {
	switch j.Outcome.Kind {
	case pipeline.Completed:
		c.Completed++
	case pipeline.Exception:
		c.Exception++
	case pipeline.TimedOut:
		c.TimedOut++
	case pipeline.Exited:
		c.Exited++
	case pipeline.Interrupted:
		c.Interrupted++
	case pipeline.LeaseLost:
		c.LeaseLost++
	}
	if j.Verdict == pipeline.Retry {
		c.Retried++
	}
	if u := j.Outcome.Usage; u != nil {
		c.CPU += u.CPU
		c.PeakMemory = max(c.PeakMemory, u.PeakMemory)
	}
}
