package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/boottime"
)

var (
	// ErrLeaseLost says that the source no longer holds the task for us: it
	// may be running elsewhere, and must be neither acknowledged nor told of.
	ErrLeaseLost = errors.New("lease lost")

	// ErrPermanent is returned if the source refuses a request for a reason that applies to
	// every task, for example because a permission is missing. A refused settlement fails
	// the run; a refused extension is retried while the lease holds.
	ErrPermanent = errors.New("refused")

	// ErrAlreadySettled says that a delivery was settled a second time, and in
	// another way. It is a fault in a stage.
	ErrAlreadySettled = errors.New("delivery is settled already")
)

// A Lease is what a Source holds for us while we have one of its tasks. Its
// methods may block on the network, and may be called from any goroutine; a
// Delivery calls Ack or Release at most once, and neither after the other.
// They retry transient errors themselves, until ctx is done. A panic in one of them counts as
// an error.
type Lease interface {
	// Ack says that the task is done and must not be delivered again.
	Ack(ctx context.Context) error
	// Release makes the task available again after delay (0: at once).
	Release(ctx context.Context, delay time.Duration) error
	// Extend asks that the lease last d from now, and returns when it will
	// end. It returns an error that Is ErrLeaseLost where the lease is gone.
	Extend(ctx context.Context, d time.Duration) (time.Time, error)
	// Expires is when the lease ended or ends, as known when the task was
	// received; the zero time where it never does.
	ExpiresAt() time.Time
}

// A Delivery is a Task that a Source has handed over, with the Lease on it.
//
// One goroutine owns a Delivery at any time; handing it to a channel hands
// over ownership. The owner that drops it settles it, with one of Ack, Release
// and LetExpire. That this happens once is enforced here and nowhere else.
type Delivery struct {
	Task Task
	// Attempt counts the task's deliveries, from 1.
	Attempt int

	lease    Lease
	received time.Time // when the run got it
	number   int64     // position in the run, from 0
	leased   bool      // the lease can expire

	mu       sync.Mutex
	until    time.Time // when the lease expires, on the clock of package boottime; valid if leased
	withheld bool      // its event was not written because the lease was lost
	reported bool      // the loss of the lease has been logged
	settled  settlement
	lost     chan struct{} // made by the first Lost or MarkLeaseLost
	cause    error         // why it was lost; nil while it is held
	after    func()        // what OnSettled was given

	// The run's books; see ledger.go. A delivery made outside a run has none.
	inFlight   *inFlight
	hasCredit  bool
	part       part
	prev, next *Delivery
}

type settlement uint8

const (
	open settlement = iota
	acked
	released
	abandoned
)

func (s settlement) String() string {
	return [...]string{"open", "acknowledged", "released", "abandoned"}[s]
}

// NewDelivery returns an unsettled delivery. A nil lease is one that never
// ends and whose methods do nothing, as for a local file. An attempt below 1
// counts as 1.
func NewDelivery(task Task, lease Lease, attempt int) *Delivery {
	d := new(Delivery)
	d.init(task, lease, attempt)
	return d
}

func (d *Delivery) init(task Task, lease Lease, attempt int) {
	d.Task, d.Attempt = task, max(attempt, 1)
	if lease == nil {
		d.lease = noLease{}
		return
	}
	d.lease = lease
	if until := lease.ExpiresAt(); !until.IsZero() {
		d.leased, d.until = true, until.Add(boottime.Suspended())
	}
}

// A Batch makes deliveries, many of them in one piece of memory. The zero value is
// ready. What it makes is kept in memory until all that share the piece are dropped,
// so that it is for sources that hand over as fast as they can.
type DeliveryArena struct{ left []Delivery }

// arenaSize is how many deliveries share a piece of memory, and maxArenaTaskBytes how large
// a task is at most that is kept by others.
const (
	arenaSize         = 32
	maxArenaTaskBytes = 4 << 10
)

// New is NewDelivery.
func (b *DeliveryArena) New(task Task, lease Lease, attempt int) *Delivery {
	if len(task.Data) > maxArenaTaskBytes {
		return NewDelivery(task, lease, attempt)
	}
	if len(b.left) == 0 {
		b.left = make([]Delivery, arenaSize)
	}
	d := &b.left[0]
	b.left = b.left[1:]
	d.init(task, lease, attempt)
	return d
}

// Ack settles the delivery: the task is over. Where the lease was lost
// meanwhile it returns ErrLeaseLost and tells the source nothing. Settling
// again in the same way does nothing; in another it returns ErrAlreadySettled.
func (d *Delivery) Ack(ctx context.Context) error {
	tell, after, err := d.settle(acked)
	if err == nil && tell {
		if d.leased {
			err = d.request(func() error { return d.lease.Ack(ctx) })
		} else {
			err = d.lease.Ack(ctx)
		}
	}
	after() // an acknowledgment may take long, and be tried again: the lease is kept meanwhile
	if err != nil {
		return fmt.Errorf("ack task %q: %w", d.Task.ID, err)
	}
	return nil
}

// Release settles the delivery: the task becomes available again after delay.
// Where the lease was lost meanwhile there is nothing to give back, and it
// returns nil.
func (d *Delivery) Release(ctx context.Context, delay time.Duration) error {
	tell, after, err := d.settle(released)
	after() // a renewal that came to the source after the release would undo it
	if err == nil && tell {
		err = d.request(func() error { return d.lease.Release(ctx, delay) })
	}
	if err != nil && !errors.Is(err, ErrLeaseLost) {
		return fmt.Errorf("release task %q: %w", d.Task.ID, err)
	}
	return nil
}

// LetExpire settles the delivery without a word to the source: the lease runs
// out by itself. It is for a task that this worker shall not be handed again
// at once, such as one that is skipped.
func (d *Delivery) LetExpire() error {
	_, after, err := d.settle(abandoned)
	after()
	if err != nil && !errors.Is(err, ErrLeaseLost) {
		return fmt.Errorf("abandon task %q: %w", d.Task.ID, err)
	}
	return nil
}

// settle moves the delivery from open to s and takes it out of the run's books.
// It reports whether the source is to be told: by the first call alone, and only
// while the lease is held. after is what OnSettled was given, to be called once.
func (d *Delivery) settle(s settlement) (tell bool, after func(), err error) {
	if d.leased {
		d.Held() // or it is lost
	}
	after = func() {}
	d.mu.Lock()
	was, lost := d.settled, d.cause
	if was == open {
		d.settled = s
		if d.after != nil {
			after, d.after = d.after, nil
		}
	}
	d.mu.Unlock()
	switch {
	case was == s:
		return false, after, nil
	case was != open:
		return false, after, fmt.Errorf("%w: it was %v", ErrAlreadySettled, was)
	}
	if d.inFlight != nil {
		d.inFlight.remove(d)
	}
	return lost == nil, after, lost
}

// Received is when the run got the delivery from its source; the zero time for one
// made outside a run.
func (d *Delivery) ReceivedAt() time.Time { return d.received }

// Number returns the position of the delivery in the run: 0 for the first one received.
func (d *Delivery) Number() int64 { return d.number }

// OnSettled has f called once the lease need not be kept any longer: before a
// release is told to the source, and after an acknowledgment has been; at once if
// the delivery has been settled. It is for the one stage that keeps leases: a second
// call takes the place of the first.
func (d *Delivery) OnSettled(f func()) {
	d.mu.Lock()
	over := d.settled != open
	if !over {
		d.after = f
	}
	d.mu.Unlock()
	if over {
		f()
	}
}

// Settled reports whether the delivery has been settled.
func (d *Delivery) Settled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settled != open
}

// Extend asks the source to extend the lease until duration from now, and returns when it
// will expire. If the source reports that the lease is lost, the delivery is marked Lost. A
// lease that has expired is not extended, because the source may have delivered the task to
// another worker; Extend then returns an error that wraps ErrLeaseLost.
func (d *Delivery) Extend(ctx context.Context, duration time.Duration) (time.Time, error) {
	if !d.Held() {
		return time.Time{}, d.lostError()
	}
	var until time.Time
	suspended := boottime.Suspended() // before the request: the machine may be suspended during it
	err := d.callSource(func() (err error) { until, err = d.lease.Extend(ctx, duration); return err })
	if err != nil {
		err = fmt.Errorf("extend task %q: %w", d.Task.ID, err)
		if errors.Is(err, ErrLeaseLost) {
			d.MarkLeaseLost(err)
		}
		return until, err
	}
	if !d.leased {
		return until, nil
	}
	d.mu.Lock()
	d.until = until.Add(suspended)
	d.mu.Unlock()
	if !d.Held() { // the response took longer than the extension
		return until, d.lostError()
	}
	return until, nil
}

// request is ask for a settlement. The run counts it while it is under way.
func (d *Delivery) request(settle func() error) error {
	if d.inFlight != nil {
		d.inFlight.settling.Add(1)
		defer d.inFlight.settling.Add(-1)
	}
	return d.callSource(settle)
}

// ask sends a request to the source. A panic in the lease's method becomes an error.
func (d *Delivery) callSource(request func() error) error {
	if d.inFlight == nil || d.inFlight.reach == nil || !d.leased {
		return recovered(request)
	}
	return d.inFlight.reach.during(leaseAnswered, func() error { return recovered(request) })
}

// leaseAnswered reports whether an error of a Lease is a response of the source. Any other
// error means that the request was abandoned without a response.
func leaseAnswered(err error) bool {
	return errors.Is(err, ErrLeaseLost) || errors.Is(err, ErrPermanent)
}

// Expires is when the lease ends, as known when the task was received; the
// zero time where it never does.
func (d *Delivery) ExpiresAt() time.Time { return d.lease.ExpiresAt() }

// Left returns the remaining time of the lease. Time while the machine is suspended counts.
// The result is 0 or negative if the lease has expired, and the maximum duration if it never
// expires.
func (d *Delivery) RemainingLease() time.Duration {
	if !d.leased {
		return math.MaxInt64
	}
	d.mu.Lock()
	until := d.until
	d.mu.Unlock()
	return until.Sub(boottime.Now())
}

// Held reports whether the lease is known to hold now. If it has expired, for example because
// the process was stopped for a long time, Held marks the delivery Lost.
func (d *Delivery) Held() bool {
	d.mu.Lock()
	until, cause := d.until, d.cause
	d.mu.Unlock()
	switch {
	case cause != nil:
		return false
	case !d.leased:
		return true
	}
	late := boottime.Now().Sub(until)
	if late < 0 {
		return true
	}
	d.mu.Lock()
	extended := !d.until.Equal(until)
	d.mu.Unlock()
	if extended {
		return d.Held()
	}
	d.MarkLeaseLost(fmt.Errorf("it expired %v ago", late.Round(time.Millisecond)))
	return false
}

func (d *Delivery) lostError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause == nil { // settled before the lease expired
		return ErrLeaseLost
	}
	return d.cause
}

// withhold reports whether the delivery's event must not be written because the lease is not
// known to hold. Once it returns true, the event is never written.
func (d *Delivery) withhold() bool {
	if d.Held() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.withheld = true
	return true
}

// ReportLoss reports whether the caller must log the loss of the lease. It returns true on
// the first call only, so that the loss is logged once.
func (d *Delivery) ReportLoss() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := !d.reported
	d.reported = true
	return first
}

// LostCause returns why the lease was lost, as an error that wraps ErrLeaseLost, or nil if it
// was not lost.
func (d *Delivery) LostCause() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cause
}

// Withheld reports whether the delivery's event was not written; see Event.Withheld.
func (d *Delivery) Withheld() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.withheld
}

// Lost is closed when the lease is gone: then the task's process is killed and
// nothing is acknowledged.
func (d *Delivery) Lost() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lostChan()
}

func (d *Delivery) lostChan() chan struct{} {
	if d.lost == nil {
		d.lost = make(chan struct{})
	}
	return d.lost
}

// MarkLeaseLost marks the delivery Lost because of cause, which is wrapped so that it matches
// ErrLeaseLost. Calls after the first one, or after settling, have no effect. MarkLeaseLost reports
// whether this call had one.
func (d *Delivery) MarkLeaseLost(cause error) bool {
	if !errors.Is(cause, ErrLeaseLost) {
		cause = fmt.Errorf("%w: %w", ErrLeaseLost, cause)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause != nil || d.settled != open {
		return false
	}
	d.cause = cause
	close(d.lostChan())
	return true
}

// ReleaseSlot says that the task no longer takes up a slot, so that the source
// may fetch another in its place. The stage that executes calls it; settling a
// delivery does so too. It counts once.
func (d *Delivery) ReleaseSlot() {
	if d.inFlight != nil {
		d.inFlight.releaseSlot(d)
	}
}

// taskEnded records that the task no longer runs.
func (d *Delivery) taskEnded() {
	if d.inFlight != nil {
		d.inFlight.taskEnded(d)
	}
}

// delivery makes every type that embeds *Delivery a Item.
func (d *Delivery) delivery() *Delivery { return d }

// noLease is held on tasks that cannot be taken from us.
type noLease struct{}

func (noLease) Ack(context.Context) error                    { return nil }
func (noLease) Release(context.Context, time.Duration) error { return nil }
func (noLease) ExpiresAt() time.Time                         { return time.Time{} }
func (noLease) Extend(context.Context, time.Duration) (time.Time, error) {
	return time.Time{}, nil
}
