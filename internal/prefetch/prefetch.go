// Package prefetch decides how many tasks a worker fetches and holds in advance.
//
//	source ─▶ [fetched, waiting] ─▶ slot or [sent to its process, waiting] ─▶ result
//	   ▲               │                            │                          │
//	Acquire      MaxQueueTime, Stalled          PerProcess                  Observe
//
// A Controller collects the durations of the tasks of one run. The source stage acquires credits
// from it. The execution stage reports the duration of each task, and asks how many tasks to send
// to a process. A stage in which tasks wait asks how long they may wait.
//
// # Guarantee
//
// Acquire grants a credit only while fewer tasks wait or run than the number of slots plus Target.
package prefetch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the prefetch.
const (
	// maxShared limits the prefetch from a shared source, because other workers cannot run the
	// tasks that this worker has prefetched.
	maxShared = 1024

	// Limits for the tasks that a process holds, including the running task. Large values save
	// system calls. Small values let less work wait behind a task that takes longer than expected.
	maxProcessTime  = 2 * time.Millisecond // run time of the tasks of one process
	maxPerProcess   = 256                  // number of tasks of one process
	minPerProcess   = 64                   // even if all processes together then exceed maxInProcesses
	maxInProcesses  = 4096                 // number of tasks of all processes together
	maxProcessBytes = 64 << 10             // size of the tasks of one process
	taskOverhead    = 64                   // bytes of the protocol per task

	// minSamples is the number of tasks that must have been observed before their average
	// determines the prefetch. The first few tasks can be untypical.
	minSamples = 8

	// updateInterval is the number of tasks after which update recalculates the target for a source
	// that no other worker uses.
	updateInterval = 64
)

// DefaultMaxQueueTime is how long fetched tasks of a shared source may wait in this worker before
// they are released to other workers. The prefetch is one second's worth of tasks, so tasks wait
// longer only if the running tasks have become slower.
const DefaultMaxQueueTime = 5 * time.Second

// Config configures a Controller.
type Config struct {
	// Slots is the number of tasks that run at the same time, at least 1.
	Slots int
	// Min is the minimum number of tasks to fetch in addition to Slots.
	Min int
	// MaxQueueTime is how long fetched tasks of a shared source may wait. Defaults to
	// DefaultMaxQueueTime.
	MaxQueueTime time.Duration
}

// A Controller determines the prefetch of one run. Its methods are safe for concurrent use, except
// SetSource.
type Controller struct {
	config Config
	shared bool // other workers consume the same source
	batch  int  // number of deliveries that the source can return per request

	credits    atomic.Int64  // number of deliveries that may be fetched now; can be negative after target was lowered
	more       chan struct{} // holds a token if credits may have been added
	target     atomic.Int64  // number of tasks to fetch in addition to Slots
	perProcess atomic.Int64  // number of tasks to send to a process
	queues     atomic.Bool   // tasks are sent to processes in advance

	mu       sync.Mutex
	samples  int64         // number of tasks observed since the start or the last stall
	duration time.Duration // moving average of the time that a task occupied its slot
	size     int           // moving average of the size of a task in bytes
}

// New returns a Controller for a source that no other worker uses.
func New(config Config) *Controller {
	config.Slots, config.Min = max(config.Slots, 1), max(config.Min, 0)
	if config.MaxQueueTime <= 0 {
		config.MaxQueueTime = DefaultMaxQueueTime
	}
	c := &Controller{config: config, batch: 1, more: make(chan struct{}, 1)}
	c.credits.Store(int64(config.Slots + config.Min))
	c.target.Store(int64(config.Min))
	c.perProcess.Store(1)
	return c
}

// SetSource describes the source: whether other workers consume it, and how many deliveries it can
// return per request. Call it before any other method.
func (c *Controller) SetSource(shared bool, batchSize int) {
	c.shared, c.batch = shared, max(batchSize, 1)
}

// Shared reports whether other workers consume the same source.
func (c *Controller) Shared() bool { return c.shared }

// Slots returns the number of tasks that run at the same time.
func (c *Controller) Slots() int { return c.config.Slots }

// Target returns the number of tasks to fetch in addition to Slots.
func (c *Controller) Target() int { return int(c.target.Load()) }

// PerProcess returns how many tasks a process may hold, including the one that it runs. It is 1
// until tasks have proved to be short.
func (c *Controller) PerProcess() int { return int(c.perProcess.Load()) }

// MaxQueueTime returns how long fetched tasks may wait for a slot before they must be released. It
// returns 0 if there is no limit, because no other worker could run the tasks.
func (c *Controller) MaxQueueTime() time.Duration {
	if !c.shared {
		return 0
	}
	return c.config.MaxQueueTime
}

// UseQueues states that tasks are sent to processes in advance. If the source is not shared and
// tasks are short, the prefetch is then twice the number of tasks that the processes may hold.
func (c *Controller) UseQueues() {
	c.queues.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.update()
}

// Acquire waits until there are enough credits for a request. It takes at least one credit and at
// most limit credits, and returns their number. Large requests are cheaper, so it waits for as many
// credits as a batch has deliveries. It never waits for more than half of Target, because the tasks
// of the other half must keep the slots busy until the request returns. If ctx is done, Acquire
// returns ctx's error.
func (c *Controller) Acquire(ctx context.Context, limit int) (int, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if n := c.tryAcquire(limit); n > 0 {
			return n, nil
		}
		select {
		case <-c.more:
		case <-ctx.Done():
		}
	}
}

func (c *Controller) tryAcquire(limit int) int {
	minimum := min(c.batch, max(int(c.target.Load())/2, 1), limit)
	for {
		have := c.credits.Load()
		if have < int64(minimum) {
			return 0
		}
		n := min(have, int64(limit))
		if c.credits.CompareAndSwap(have, have-n) {
			return int(n)
		}
	}
}

// Return returns n credits that a request did not use, or whose tasks no longer occupy a slot.
func (c *Controller) Return(n int) {
	if n <= 0 {
		return
	}
	c.credits.Add(int64(n))
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// Observe records that a task with size bytes of data has occupied its slot for duration.
func (c *Controller) Observe(duration time.Duration, size int) {
	const weight = 16 // the averages cover about the last 16 tasks
	size += taskOverhead
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.samples++; c.samples == 1 {
		c.duration, c.size = duration, size
	} else {
		c.duration += (duration - c.duration) / weight
		c.size += (size - c.size) / weight
	}
	c.update()
}

// Stalled records that fetched tasks waited for longer than MaxQueueTime. For a shared source, it
// lowers the prefetch to Config.Min until minSamples further tasks have proved to be short.
func (c *Controller) Stalled() {
	if !c.shared {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.samples = 0
	c.perProcess.Store(1)
	c.setTarget(0)
}

// update determines perProcess and target from the averages. The caller holds c.mu.
func (c *Controller) update() {
	if c.samples >= minSamples {
		c.perProcess.Store(int64(c.processDepth()))
	}
	switch {
	case c.shared && c.samples >= minSamples:
		c.setTarget(c.perSecond())
	case !c.shared && c.queues.Load() && c.samples%updateInterval == 0:
		want := c.config.Slots
		if n := c.PerProcess(); n > 1 {
			want *= 2 * n
		}
		c.setTarget(want)
	}
}

// processDepth returns how many tasks a process may hold.
func (c *Controller) processDepth() int {
	n := min(maxPerProcess, max(minPerProcess, maxInProcesses/c.config.Slots))
	if c.duration > 0 {
		n = min(n, int(maxProcessTime/c.duration))
	}
	return max(min(n, maxProcessBytes/c.size), 1)
}

// perSecond returns how many tasks the slots finish in one second, at most maxShared. It returns 0
// if the average task takes longer than a second.
func (c *Controller) perSecond() int {
	n := maxShared
	if c.duration > 0 {
		n = int(min(maxShared, time.Duration(c.config.Slots)*time.Second/c.duration))
	}
	if n < c.config.Slots {
		return 0
	}
	return n
}

// setTarget sets target and adjusts the credits. Tasks that are already fetched are kept.
func (c *Controller) setTarget(n int) {
	n = max(n, c.config.Min)
	switch added := n - int(c.target.Swap(int64(n))); {
	case added > 0:
		c.Return(added)
	case added < 0:
		c.credits.Add(int64(added))
	}
}
