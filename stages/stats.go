package stages

import (
	"sync"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// Stats counts the outcomes of tasks. The zero value is ready to use. The methods are safe for
// concurrent use.
type Stats struct {
	// FinalOnly states that only the last attempt of a task counts as Completed, Exception,
	// TimedOut or Exited. The attempts before a retry then count only as Retried. Set FinalOnly
	// before the first use of the Stats.
	FinalOnly bool

	mu        sync.Mutex
	counts    Counts
	latencies histogram
}

// Counts are the numbers that a Stats has counted.
type Counts struct {
	Completed, Exception, TimedOut, Exited int64
	// Interrupted is the number of tasks that a shutdown ended. LeaseLost is the number of tasks
	// whose lease was lost. For both kinds of tasks no event was written.
	Interrupted, LeaseLost int64
	// SettleFailed is the number of tasks that could not be acknowledged or released. The source
	// delivers these tasks again.
	SettleFailed int64
	// Retried is the number of tasks that were reported and released for another attempt.
	Retried int64
	// Extended is the number of extensions of leases. ExtendFailed is the number of attempts to extend a
	// lease that failed. Only a Stats that is passed to Extend counts them.
	Extended, ExtendFailed int64
	// CPU is the total CPU time of the tasks' processes. PeakMemory is the largest peak memory of a
	// single process, in bytes.
	CPU        time.Duration
	PeakMemory int64
}

// Reported returns the number of tasks with an event.
func (c Counts) Reported() int64 { return c.Completed + c.Exception + c.TimedOut + c.Exited }

// NotCompleted returns the number of tasks with an event other than task_completed.
func (c Counts) NotCompleted() int64 { return c.Exception + c.TimedOut + c.Exited }

// Counts returns the current numbers.
func (s *Stats) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// LatencyQuantile returns the q-quantile of the time from receiving a task to writing its event.
// For example, q = 0.5 is the median. The result exceeds the exact quantile by at most an eighth.
// It is 0 if no event has been written.
func (s *Stats) LatencyQuantile(q float64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latencies.quantile(q)
}

// add counts a batch of tasks whose events were written at now.
func (s *Stats) add(batch []pipeline.Decision, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range batch {
		j := &batch[i]
		s.counts.add(j, s.FinalOnly)
		if k := j.Outcome.Kind; k == pipeline.Interrupted || k == pipeline.LeaseLost || j.Plumbing().ReceivedAt().IsZero() {
			continue // no event was written
		}
		s.latencies.add(now.Sub(j.Plumbing().ReceivedAt()))
	}
}

// extended counts an attempt to extend a lease.
func (s *Stats) extended(err error) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.counts.ExtendFailed++
		return
	}
	s.counts.Extended++
}

// failed counts a task that could not be acknowledged or released.
func (s *Stats) failed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.SettleFailed++
}

func (c *Counts) add(j *pipeline.Decision, finalOnly bool) {
	switch kind := j.Outcome.Kind; {
	case finalOnly && j.Verdict == pipeline.Retry:
	case kind == pipeline.Completed:
		c.Completed++
	case kind == pipeline.Exception:
		c.Exception++
	case kind == pipeline.TimedOut:
		c.TimedOut++
	case kind == pipeline.Exited:
		c.Exited++
	case kind == pipeline.Interrupted:
		c.Interrupted++
	case kind == pipeline.LeaseLost:
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
