package procexec

import "time"

// Limits for the tasks that a process holds, including the one that it runs. Large values save
// system calls. Small values let less work wait behind a task that takes longer than expected.
const (
	maxPrefetchTime  = 2 * time.Millisecond // run time of the tasks of one process
	maxPerProcess    = 256                  // number of tasks of one process
	minPerProcess    = 64                   // even if all processes together then exceed maxPrefetched
	maxPrefetched    = 4096                 // number of tasks of all processes together
	maxPrefetchBytes = 64 << 10             // size of the tasks of one process
)

// prefetcher determines how many tasks a process may hold, from the replies so far.
type prefetcher struct {
	replies     int64         // number of replies received
	avgDuration time.Duration // running average of the run time of a task
	avgSize     int           // running average of the size of a task in bytes
	wanted      int           // the last argument of OnPrefetch
}

// prefetchDepth returns how many tasks a process may hold, including the one that it runs. It
// returns 1 until a few replies have shown how long tasks take.
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

// observe updates the running averages when a reply has arrived. It calls OnPrefetch if the number
// of jobs worth receiving in advance has changed.
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
