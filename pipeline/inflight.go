package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// ledger is a run's books: which deliveries are out, and how many more may be
// fetched. It is what makes two promises checkable: that a source is never
// asked for more than can start, and that no delivery is dropped unsettled.
type inFlight struct {
	mu      sync.Mutex
	credits int           // how many deliveries may be fetched now; below 0 after a resize
	more    chan struct{} // holds one token when credits may have come
	head    *Delivery     // the deliveries that are out, newest first
	out     int
	in      int64     // how many there have been in all
	idle    time.Time // since when none has been out; valid while out is 0
	ended   int       // how many deliveries are out whose task has ended

	complete bool          // nothing more will be received
	quiet    chan struct{} // closed once no task runs and none will start
	isQuiet  bool          // quiet is closed

	settling atomic.Int64 // requests under way that settle a delivery

	giveBack func(*Delivery) // the run's, for Delivery.ReleaseAsync
	reach    *reach          // reachability of the source's provider
}

// part is the part of a run that a delivery is in.
type part uint8

const (
	partNone   part = iota // not received, or settled
	partRun                // received: it waits for a slot, or its task runs
	partSettle             // its task has ended: it waits to be reported and settled
)

func newInFlight(credits int) *inFlight {
	return &inFlight{credits: credits, more: make(chan struct{}, 1), idle: time.Now(), quiet: make(chan struct{})}
}

// take blocks until as many as least may be fetched, which may change meanwhile, and
// takes up to most credits.
func (l *inFlight) acquire(ctx context.Context, least func() int, most int) (int, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		want := max(least(), 1)
		l.mu.Lock()
		n := 0
		if l.credits >= want {
			n = min(l.credits, most)
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

// received enters what a Receive for granted deliveries has returned, and puts
// back the credits it did not use.
func (l *inFlight) add(ds []*Delivery, granted int) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range ds {
		d.inFlight, d.hasCredit, d.part, d.received, d.number = l, true, partRun, now, l.in
		d.next = l.head
		if l.head != nil {
			l.head.prev = d
		}
		l.head = d
		l.out++
		l.in++
	}
	l.addCredits(granted - len(ds))
}

// put returns n credits; the caller holds l.mu.
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

// resize changes by how much may be out in all.
func (l *inFlight) resize(by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if by > 0 {
		l.addCredits(by)
	} else {
		l.credits += by
	}
}

// freeSlot returns d's credit, once.
func (l *inFlight) releaseSlot(d *Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.hasCredit {
		d.hasCredit = false
		l.addCredits(1)
	}
	l.end(d)
}

// taskEnded records that the task of d has ended.
func (l *inFlight) taskEnded(d *Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(d)
}

// end is taskEnded for a caller that holds l.mu.
func (l *inFlight) end(d *Delivery) {
	if d.part == partRun {
		d.part = partSettle
		l.ended++
		l.checkIdle()
	}
}

// lookQuiet closes quiet once no task runs and none will start. The caller holds l.mu.
func (l *inFlight) checkIdle() {
	if l.complete && l.out == l.ended && !l.isQuiet {
		l.isQuiet = true
		close(l.quiet)
	}
}

// seal records that nothing more will be received.
func (l *inFlight) seal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.complete = true
	l.checkIdle()
}

// settled strikes d out of the books. Delivery.settle calls it once.
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
	if l.out--; l.out == 0 {
		l.idle = time.Now()
	}
	l.checkIdle()
}

// idleFor is for how long no delivery has been out.
func (l *inFlight) idleFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out > 0 {
		return 0
	}
	return time.Since(l.idle)
}

// total returns how many deliveries have been received in all.
func (l *inFlight) total() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.in
}

// outNow returns how many deliveries are out.
func (l *inFlight) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.out)
}

// counts returns how many deliveries are out whose task has not ended, and how many whose task has.
func (l *inFlight) counts() (unended, ended int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.out - l.ended), int64(l.ended)
}

// outstanding returns the deliveries that have not been settled.
func (l *inFlight) unsettled() []*Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	ds := make([]*Delivery, 0, l.out)
	for d := l.head; d != nil; d = d.next {
		ds = append(ds, d)
	}
	return ds
}
