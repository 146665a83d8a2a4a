package procexec

import "time"

// Limits of prefetching. maxPrefetchTime is the amount of work, maxPerProcess the number of tasks and
// maxPrefetchBytes the number of bytes that a process holds. maxPrefetched is the number of tasks
// that all processes hold together, except that each may hold minPerProcess.
const (
	maxPrefetchTime  = 2 * time.Millisecond
	maxPerProcess    = 256
	minPerProcess    = 64
	maxPrefetched    = 4096
	maxPrefetchBytes = 64 << 10
)

// prefetcher has what the number of prefetched tasks depends on.
type prefetcher struct {
	replies     int64         // number of replies
	avgDuration time.Duration // running average of the duration of a task
	avgSize     int           // running average of the size of a task in bytes
	wanted      int           // last argument of OnPrefetch
}

// prefetchDepth returns the number of tasks that a process that prefetches may hold.
func (l *loop[J, R]) prefetchDepth() int {
	p := &l.prefetch
	if p.replies < 8 {
		return 1
	}
	n := min(maxPerProcess, max(minPerProcess, maxPrefetched/len(l.slots)))
	if p.avgDuration > 0 {
		n = min(n, int(maxPrefetchTime/p.avgDuration))
	}
	if p.avgSize > 0 {
		n = min(n, maxPrefetchBytes/p.avgSize)
	}
	return max(n, 1)
}

// observe updates the running averages with a reply, and calls OnPrefetch if its argument changes.
func (l *loop[J, R]) observe(took time.Duration, size int) {
	p := &l.prefetch
	p.replies++
	const weight = 16
	if p.replies == 1 {
		p.avgDuration, p.avgSize = took, size
	} else {
		p.avgDuration += (took - p.avgDuration) / weight
		p.avgSize += (size - p.avgSize) / weight
	}
	if p.replies%64 != 0 && p.wanted != 0 || l.config.OnPrefetch == nil {
		return
	}
	wanted := len(l.slots)
	if d := l.prefetchDepth(); d > 1 {
		wanted = 2 * d * len(l.slots)
	}
	if wanted != p.wanted {
		p.wanted = wanted
		l.config.OnPrefetch(wanted)
	}
}
