package pipeline

import (
	"sync"
	"sync/atomic"
	"time"
)

// prefetch determines how many tasks a run fetches in addition to one task per slot.
type prefetch struct {
	target atomic.Int64 // current number of tasks to prefetch

	// Durations of the tasks. They are collected only if the source is shared.
	mu      sync.Mutex
	samples int           // number of tasks measured
	average time.Duration // moving average of the durations
}

// maxPrefetch limits the prefetch from a shared source, because other workers cannot run the tasks
// that this worker has prefetched.
const maxPrefetch = 1024

// minSamples is the number of tasks that must have been measured before their average duration
// determines the prefetch. The first few tasks can be untypical.
const minSamples = 8

// requestPrefetch sets the prefetch to n, or to Options.Prefetch if n is smaller. The stage that
// executes tasks calls requestPrefetch, because it knows how many tasks per slot are useful. Tasks
// that are already prefetched are kept. If the source is shared, requestPrefetch does nothing,
// because the Run then determines the prefetch from the duration of the tasks.
func (r *Run) requestPrefetch(n int) {
	if !r.opts.SharedSource {
		r.setPrefetch(n)
	}
}

func (r *Run) setPrefetch(n int) {
	n = max(n, r.opts.Prefetch)
	r.inFlight.resize(n - int(r.prefetch.target.Swap(int64(n))))
}

// observeDuration records how long a task occupied its slot, and adjusts the prefetch from a shared
// source: it prefetches as many tasks as the slots finish in one second. The stage that executes
// tasks calls observeDuration.
func (r *Run) observeDuration(duration time.Duration) {
	if !r.opts.SharedSource {
		return
	}
	p := &r.prefetch
	p.mu.Lock()
	defer p.mu.Unlock()
	const weight = 16 // the average covers about the last 16 tasks
	if p.samples++; p.samples == 1 {
		p.average = duration
	} else {
		p.average += (duration - p.average) / weight
	}
	if p.samples < minSamples {
		return
	}
	perSecond := maxPrefetch
	if p.average > 0 {
		perSecond = int(min(maxPrefetch, time.Duration(r.opts.Slots)*time.Second/p.average))
	}
	if perSecond < r.opts.Slots { // do not prefetch tasks that take longer than a second
		perSecond = 0
	}
	if perSecond != int(p.target.Load()) {
		r.setPrefetch(perSecond)
	}
}

// ResetPrefetch stops prefetching from a shared source. Prefetching starts again when the run has
// measured that tasks are short. Call ResetPrefetch if prefetched tasks wait for a long time
// because running tasks take longer than the tasks before.
func (r *Run) ResetPrefetch() {
	if !r.opts.SharedSource {
		return
	}
	r.prefetch.mu.Lock()
	defer r.prefetch.mu.Unlock()
	r.prefetch.samples = 0
	r.setPrefetch(0)
}

// minFetch returns the minimum number of deliveries per request. Large requests are cheaper, so the
// minimum is a full batch. It is at most half of the prefetch, however, because the other half must
// keep the slots busy until the request returns.
func (r *Run) minFetch() int {
	return min(r.opts.FetchBatchSize, max(int(r.prefetch.target.Load())/2, 1))
}
