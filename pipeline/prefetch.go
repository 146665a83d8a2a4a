package pipeline

import (
	"sync"
	"sync/atomic"
	"time"
)

// prefetch decides how many tasks a run fetches in addition to its slots.
type prefetch struct {
	target atomic.Int64

	// Statistics of the tasks, collected if the source is shared.
	mu      sync.Mutex
	samples int
	average time.Duration
}

// maxPrefetch is the maximum number of prefetched tasks of a shared source.
const maxPrefetch = 1024

// minSamples is the number of tasks after which their average duration is used.
const minSamples = 8

// requestPrefetch changes Options.Prefetch to n, but not below its initial value. The stage that
// executes tasks calls it, because only that stage knows how many tasks per slot are useful. Tasks
// that are already prefetched are kept. If the source is shared, requestPrefetch does nothing,
// because then the Run sets the prefetch.
func (r *Run) requestPrefetch(n int) {
	if !r.opts.SharedSource {
		r.setPrefetch(n)
	}
}

func (r *Run) setPrefetch(n int) {
	n = max(n, r.opts.Prefetch)
	r.inFlight.resize(n - int(r.prefetch.target.Swap(int64(n))))
}

// observeDuration records how long a task occupied its slot. The stage that executes tasks
// calls it.
func (r *Run) observeDuration(duration time.Duration) {
	if !r.opts.SharedSource {
		return
	}
	p := &r.prefetch
	p.mu.Lock()
	defer p.mu.Unlock()
	const weight = 16
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

// ResetPrefetch stops prefetching from a shared source until tasks have proved to be short
// again. Call it if prefetched tasks wait for a long time because running tasks take longer
// than before.
func (r *Run) ResetPrefetch() {
	if !r.opts.SharedSource {
		return
	}
	r.prefetch.mu.Lock()
	defer r.prefetch.mu.Unlock()
	r.prefetch.samples = 0
	r.setPrefetch(0)
}

// minFetch returns the minimum number of deliveries to request: a full batch, but at most
// half of the prefetched tasks, so that slots do not run dry while the request is in
// flight.
func (r *Run) minFetch() int {
	return min(r.opts.FetchBatchSize, max(int(r.prefetch.target.Load())/2, 1))
}
