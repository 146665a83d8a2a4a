package pipeline

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctworker/ctworker/internal/prefetch"
)

// inFlight tracks the deliveries of a run that are in flight, which means received and not settled.
// Each of them holds a credit of the prefetch.Controller until its task no longer occupies a slot.
type inFlight struct {
	prefetch *prefetch.Controller

	mu        sync.Mutex
	head      *Delivery // list of the deliveries in flight, newest first
	n         int       // number of deliveries in flight
	received  int64     // number of deliveries received since the start of the run
	idleSince time.Time // when n became 0; valid if n is 0
	ended     int       // number of deliveries in flight whose task has ended

	complete bool          // the source will not return more deliveries
	quiet    chan struct{} // closed when no task runs and none will start
	isQuiet  bool          // quiet is closed

	settling atomic.Int64 // number of acknowledgments and releases that wait for the source

	releaseAsync func(*Delivery) // Run.releaseAsync, called by Delivery.ReleaseAsync
	reach        *reachability   // whether the source responds
}

// part is the part of the pipeline that a delivery has reached.
type part uint8

const (
	partNone   part = iota // not received, or settled
	partRun                // waits for a slot, or its task runs
	partSettle             // its task has ended; it waits to be reported and settled
)

func newInFlight(p *prefetch.Controller) *inFlight {
	return &inFlight{prefetch: p, idleSince: time.Now(), quiet: make(chan struct{})}
}

// add adds the deliveries that one call of Receive returned. granted is the number of credits that
// the caller acquired for that call. add returns the unused credits.
func (l *inFlight) add(ds []*Delivery, granted int) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range ds {
		d.inFlight, d.hasCredit, d.part, d.received, d.number = l, true, partRun, now, l.received
		d.next = l.head
		if l.head != nil {
			l.head.prev = d
		}
		l.head = d
		l.n++
		l.received++
	}
	l.prefetch.Return(granted - len(ds))
}

// releaseSlot returns the credit of d, unless it has been returned already.
func (l *inFlight) releaseSlot(d *Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.hasCredit {
		d.hasCredit = false
		l.prefetch.Return(1)
	}
	l.markEnded(d)
}

// taskEnded records that the task of d has ended.
func (l *inFlight) taskEnded(d *Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.markEnded(d)
}

// markEnded is taskEnded for a caller that holds l.mu.
func (l *inFlight) markEnded(d *Delivery) {
	if d.part == partRun {
		d.part = partSettle
		l.ended++
		l.checkQuiet()
	}
}

// checkQuiet closes quiet if no task runs and none will start. The caller holds l.mu.
func (l *inFlight) checkQuiet() {
	if l.complete && l.n == l.ended && !l.isQuiet {
		l.isQuiet = true
		close(l.quiet)
	}
}

// seal records that the source will not return more deliveries.
func (l *inFlight) seal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.complete = true
	l.checkQuiet()
}

// remove removes d, which has been settled. Delivery.settle calls it once per delivery.
func (l *inFlight) remove(d *Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.hasCredit {
		d.hasCredit = false
		l.prefetch.Return(1)
	}
	if d.part == partSettle {
		l.ended--
	}
	d.part = partNone
	if d.prev != nil {
		d.prev.next = d.next
	} else {
		l.head = d.next
	}
	if d.next != nil {
		d.next.prev = d.prev
	}
	d.prev, d.next = nil, nil
	if l.n--; l.n == 0 {
		l.idleSince = time.Now()
	}
	l.checkQuiet()
}

// idleFor returns for how long no delivery has been in flight.
func (l *inFlight) idleFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n > 0 {
		return 0
	}
	return time.Since(l.idleSince)
}

// total returns the number of deliveries received since the start of the run.
func (l *inFlight) total() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.received
}

// counts returns the number of deliveries in flight, by the state of their tasks: unended counts
// tasks that wait or run, and ended counts tasks that have ended.
func (l *inFlight) counts() (unended, ended int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.n - l.ended), int64(l.ended)
}

// unsettled returns the deliveries that have not been settled.
func (l *inFlight) unsettled() []*Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	ds := make([]*Delivery, 0, l.n)
	for d := l.head; d != nil; d = d.next {
		ds = append(ds, d)
	}
	return ds
}
