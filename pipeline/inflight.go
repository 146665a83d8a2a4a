package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// inFlight tracks the deliveries in flight of a run, and the credits: the number of deliveries that
// may still be fetched. It ensures that a source is never asked for more deliveries than can start,
// and that every delivery is settled.
type inFlight struct {
	mu        sync.Mutex
	credits   int           // number of deliveries that may be fetched now; can be negative after resize
	more      chan struct{} // holds one token if credits may have been added
	head      *Delivery     // list of the deliveries in flight, newest first
	n         int           // number of deliveries in flight
	received  int64         // total number of deliveries
	idleSince time.Time     // valid if n is 0
	ended     int           // number of deliveries in flight whose task has ended

	complete bool          // nothing more will be received
	quiet    chan struct{} // closed once no task runs and none will start
	isQuiet  bool          // quiet is closed

	settling atomic.Int64 // number of settlements in flight

	releaseAsync func(*Delivery) // the run's, for Delivery.ReleaseAsync
	reach        *reachability   // reachability of the source's provider
}

// part is the part of a run in which a delivery is.
type part uint8

const (
	partNone   part = iota // not received, or settled
	partRun                // waits for a slot, or its task runs
	partSettle             // its task has ended, and it waits to be reported and settled
)

func newInFlight(credits int) *inFlight {
	return &inFlight{credits: credits, more: make(chan struct{}, 1), idleSince: time.Now(), quiet: make(chan struct{})}
}

// acquire waits until there are at least minCredits() credits, and takes up to maxCredits of them.
// acquire calls minCredits again whenever credits may have been added.
func (l *inFlight) acquire(ctx context.Context, minCredits func() int, maxCredits int) (int, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		want := max(minCredits(), 1)
		l.mu.Lock()
		n := 0
		if l.credits >= want {
			n = min(l.credits, maxCredits)
			l.credits -= n
		}
		l.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		select {
		case <-l.more:
		case <-ctx.Done():
		}
	}
}

// add adds the deliveries that one Receive returned. granted is the number of credits that were
// taken for the Receive; add returns the unused ones to the pool.
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
	l.addCredits(granted - len(ds))
}

// addCredits adds n credits. The caller holds l.mu.
func (l *inFlight) addCredits(n int) {
	if n <= 0 {
		return
	}
	l.credits += n
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// resize adds n credits, or removes -n credits if n is negative.
func (l *inFlight) resize(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > 0 {
		l.addCredits(n)
	} else {
		l.credits += n
	}
}

// releaseSlot returns the credit of d, unless it has been returned already.
func (l *inFlight) releaseSlot(d *Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.hasCredit {
		d.hasCredit = false
		l.addCredits(1)
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

// checkQuiet closes quiet once no task runs and none will start. The caller holds l.mu.
func (l *inFlight) checkQuiet() {
	if l.complete && l.n == l.ended && !l.isQuiet {
		l.isQuiet = true
		close(l.quiet)
	}
}

// seal records that nothing more will be received.
func (l *inFlight) seal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.complete = true
	l.checkQuiet()
}

// remove removes d. Delivery.settle calls it once.
func (l *inFlight) remove(d *Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.hasCredit {
		d.hasCredit = false
		l.addCredits(1)
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

// idleFor returns how long no delivery has been in flight.
func (l *inFlight) idleFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n > 0 {
		return 0
	}
	return time.Since(l.idleSince)
}

// total returns the total number of deliveries received.
func (l *inFlight) total() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.received
}

// count returns the number of deliveries in flight.
func (l *inFlight) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.n)
}

// counts returns how many deliveries in flight have a task that has not ended, and how many have a
// task that has ended.
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
