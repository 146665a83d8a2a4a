package procexec

import (
	"container/heap"
	"time"
)

// A deadline is a time at which the loop calls the function expire.
type deadline struct {
	at     time.Time
	index  int // index in the heap; -1 if the deadline is not set
	expire func(now time.Time)
}

// deadlines is a heap of deadlines that share one timer. When a deadline is moved to a later time,
// the timer is not changed. Therefore, moving a deadline for each task costs no system call. The
// timer may fire too early, which does no harm.
type deadlines struct {
	heap  deadlineHeap
	timer *time.Timer
	armed time.Time // when the timer will fire; zero if the timer is not running
}

func newDeadlines() *deadlines {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &deadlines{timer: t}
}

// set sets the deadline d to the time at. If d was set before, it is moved.
func (all *deadlines) set(d *deadline, at time.Time) {
	if d.index >= 0 && d.at.Equal(at) {
		return
	}
	d.at = at
	if d.index >= 0 {
		heap.Fix(&all.heap, d.index)
	} else {
		heap.Push(&all.heap, d)
	}
	all.arm(time.Time{})
}

// clear removes d. It does nothing if d is not set.
func (all *deadlines) clear(d *deadline) {
	if d.index >= 0 {
		heap.Remove(&all.heap, d.index)
	}
}

// arm makes the timer fire at the earliest deadline, or earlier. now is the current time, or zero
// if the caller does not know it.
func (all *deadlines) arm(now time.Time) {
	if len(all.heap) == 0 {
		return
	}
	next := all.heap[0].at
	if !all.armed.IsZero() && !next.Before(all.armed) {
		return
	}
	if now.IsZero() {
		now = time.Now()
	}
	all.armed = next
	all.timer.Reset(max(next.Sub(now), minTimerInterval))
}

// minTimerInterval is the minimum time until the timer fires. It limits the CPU time that deadlines
// cost if many of them are close together.
const minTimerInterval = time.Millisecond

// expire clears the deadlines that have passed, and then calls their functions. A function may set
// its deadline again. If the new time has also passed, the next call of expire handles it.
func (all *deadlines) expire() {
	now := time.Now()
	all.armed = time.Time{}
	var due []*deadline
	for len(all.heap) > 0 && !all.heap[0].at.After(now) {
		due = append(due, heap.Pop(&all.heap).(*deadline)) //nolint:errcheck // the heap holds nothing else
	}
	for _, d := range due {
		if d.index < 0 { // if d is set, the function of another deadline has set it again
			d.expire(now)
		}
	}
	all.arm(now)
}

// deadlineHeap implements heap.Interface.
type deadlineHeap []*deadline

func (h deadlineHeap) Len() int           { return len(h) }
func (h deadlineHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h deadlineHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *deadlineHeap) Push(x any) {
	d := x.(*deadline) //nolint:errcheck // the heap holds nothing else
	d.index = len(*h)
	*h = append(*h, d)
}

// Pop implements heap.Interface.
func (h *deadlineHeap) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	d.index = -1
	return d
}
