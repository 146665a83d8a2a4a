package pipeline

import (
	"sync"
	"sync/atomic"
	"time"
)

// demand is how many tasks a run fetches ahead of its slots, and in what portions.
type demand struct {
	ahead atomic.Int64

	// What is known of the tasks, where the source is shared.
	mu      sync.Mutex
	ran     int
	average time.Duration
}

// maxPrefetch is how many tasks of a shared source are fetched ahead at most, however
// short they are.
const maxPrefetch = 1024

// steady is after how many tasks their average is believed.
const minSamples = 8

// SetPrefetch changes Options.Ahead, but to no less than that was: how many tasks can
// be put to use beyond one for each slot depends on how short they are, and only
// the stage that executes them sees that. What has been fetched already stays. Of a
// shared source the run decides by itself, and this does nothing.
func (r *Run) SetPrefetch(n int) {
	if !r.opts.SharedSource {
		r.setPrefetch(n)
	}
}

func (r *Run) setPrefetch(n int) {
	n = max(n, r.opts.Prefetch)
	r.inFlight.resize(n - int(r.demand.ahead.Swap(int64(n))))
}

// Observe tells the run how long a task has taken a slot. The stage that executes
// calls it.
func (r *Run) ObserveDuration(took time.Duration) {
	if !r.opts.SharedSource {
		return
	}
	d := &r.demand
	d.mu.Lock()
	defer d.mu.Unlock()
	const weight = 16
	if d.ran++; d.ran == 1 {
		d.average = took
	} else {
		d.average += (took - d.average) / weight
	}
	if d.ran < minSamples {
		return
	}
	perSecond := maxPrefetch
	if d.average > 0 {
		perSecond = int(min(maxPrefetch, time.Duration(r.opts.Slots)*time.Second/d.average))
	}
	if perSecond < r.opts.Slots { // of tasks that take longer than a second, none
		perSecond = 0
	}
	if perSecond != int(d.ahead.Load()) {
		r.setPrefetch(perSecond)
	}
}

// Stall says that what has been fetched ahead waits for long: the tasks that run now
// are not as short as the ones before. Nothing is fetched ahead until the tasks have
// shown to be short again.
func (r *Run) ResetPrefetch() {
	if !r.opts.SharedSource {
		return
	}
	r.demand.mu.Lock()
	defer r.demand.mu.Unlock()
	r.demand.ran = 0
	r.setPrefetch(0)
}

// least is how many deliveries are worth a request: a whole batch, where half of
// what may wait is as many, so that slots do not run dry meanwhile.
func (r *Run) minFetch() int {
	return min(r.opts.FetchBatchSize, max(int(r.demand.ahead.Load())/2, 1))
}
