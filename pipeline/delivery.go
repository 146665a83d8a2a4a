package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctworker/ctworker/internal/boottime"
)

var (
	// ErrLeaseLost is returned if the lease on a task has ended. Another worker may have
	// received the task, so it must be neither acknowledged nor reported.
	ErrLeaseLost = errors.New("lease lost")

	// ErrPermanent is returned if the source refuses a request for a reason that applies to every
	// task, for example because a permission is missing. A refused settlement fails the run. A
	// refused lease extension is retried until the lease expires.
	ErrPermanent = errors.New("the source refuses the request")

	// ErrAlreadySettled is returned if a delivery is settled a second time and in a
	// different way. It indicates a bug in a stage.
	ErrAlreadySettled = errors.New("delivery already settled")
)

// Lease is a source's temporary exclusive claim on a task for one worker. Its methods may
// block on the network and may be called from any goroutine. They retry transient errors
// until ctx is done. A panic in one of them counts as an error.
//
// A Delivery calls at most one of Ack and Release, and only once.
type Lease interface {
	// Ack removes the task from the source, so that it is not delivered again.
	Ack(ctx context.Context) error
	// Release makes the task available again after delay, or at once if delay is 0.
	Release(ctx context.Context, delay time.Duration) error
	// Extend extends the lease until d from now and returns when it will expire. It returns
	// an error that wraps ErrLeaseLost if the lease has ended.
	Extend(ctx context.Context, d time.Duration) (time.Time, error)
	// ExpiresAt returns when the lease expires, as known when the task was received. The
	// zero time means that it never expires.
	ExpiresAt() time.Time
}

// Delivery is a Task received from a Source, and the Lease on it.
//
// One goroutine owns a Delivery at any time. Sending it on a channel transfers the
// ownership. Before the owner drops the Delivery, it settles it with exactly one of Ack,
// Release and LetExpire; Delivery enforces that.
type Delivery struct {
	Task Task
	// Attempt is the number of times the task has been delivered, from 1.
	Attempt int

	lease    Lease
	received time.Time // when the run received it
	number   int64     // position in the run, from 0
	leased   bool      // the lease can expire

	mu        sync.Mutex
	until     time.Time // when the lease expires, on the clock of package boottime; valid if leased
	withheld  bool      // its event was not written because the lease was lost
	reported  bool      // the loss of the lease has been logged
	settled   settlement
	lost      chan struct{} // created by the first call of Lost or MarkLeaseLost
	cause     error         // why the lease was lost, or nil
	onSettled func()        // argument of plumbing.Delivery.OnSettled

	// The run's tracker, or nil if the delivery was created outside a run. See inflight.go.
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
	expires
)

func (s settlement) String() string {
	return [...]string{"open", "acknowledged", "released", "left to expire"}[s]
}

// NewDelivery returns an unsettled delivery. If lease is nil, as for a task from a local file, the
// lease never expires, and settling does nothing. An attempt below 1 counts as 1.
func NewDelivery(task Task, lease Lease, attempt int) *Delivery {
	if len(task.Data) > maxBlockTaskBytes {
		d := new(Delivery)
		d.init(task, lease, attempt)
		return d
	}
	b := spareBlock.Swap(nil)
	if b == nil {
		b = new(block)
	}
	d := &b.deliveries[b.used]
	if b.used++; b.used < len(b.deliveries) {
		spareBlock.Store(b) // another goroutine may have stored a block, which is dropped
	}
	d.init(task, lease, attempt)
	return d
}

// A block is an allocation of several deliveries, because one allocation per task is too slow for
// tasks of a few microseconds. A block is freed only when all its deliveries have been dropped.
type block struct {
	deliveries [32]Delivery
	used       int
}

// maxBlockTaskBytes is the size of Task.Data above which a delivery is allocated alone, to be freed
// without waiting for the rest of a block.
const maxBlockTaskBytes = 4 << 10

// spareBlock is a block with unused deliveries, or nil while a goroutine uses it. A sync.Pool would
// drop blocks at random under the race detector.
var spareBlock atomic.Pointer[block] //nolint:gochecknoglobals // a cache

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

// Ack settles the delivery: the task is finished. If the lease was lost, it returns
// ErrLeaseLost and sends no request to the source. A repeated call does nothing. If the
// delivery was settled in a different way, Ack returns ErrAlreadySettled.
func (d *Delivery) Ack(ctx context.Context) error {
	notifySource, onSettled, err := d.settle(acked)
	if err == nil && notifySource {
		if d.leased {
			err = d.request(func() error { return d.lease.Ack(ctx) })
		} else {
			err = d.lease.Ack(ctx)
		}
	}
	onSettled() // after the request, because the lease must be extended while Ack is retried
	if err != nil {
		return fmt.Errorf("ack task %q: %w", d.Task.ID, err)
	}
	return nil
}

// Release settles the delivery: the task becomes available again after delay. If the lease
// was lost, there is nothing to release, and Release returns nil.
func (d *Delivery) Release(ctx context.Context, delay time.Duration) error {
	notifySource, onSettled, err := d.settle(released)
	onSettled() // before the request, because a later lease extension would undo the release
	if err == nil && notifySource {
		err = d.request(func() error { return d.lease.Release(ctx, delay) })
	}
	if err != nil && !errors.Is(err, ErrLeaseLost) {
		return fmt.Errorf("release task %q: %w", d.Task.ID, err)
	}
	return nil
}

// LetExpire settles the delivery without a request to the source: the task becomes
// available when its lease expires. Use it for a task that must not be delivered to this
// worker again at once, such as one that is skipped.
func (d *Delivery) LetExpire() error {
	_, onSettled, err := d.settle(expires)
	onSettled()
	if err != nil && !errors.Is(err, ErrLeaseLost) {
		return fmt.Errorf("let the lease of task %q expire: %w", d.Task.ID, err)
	}
	return nil
}

// settle changes the state of the delivery from open to s, and removes the delivery from the run's
// tracker. It returns notifySource = true if the caller must send a request to the source: on the
// first call, while the lease is held. The caller must call onSettled, which does nothing except on
// the first call.
func (d *Delivery) settle(s settlement) (notifySource bool, onSettled func(), err error) {
	if d.leased {
		d.Held() // marks an expired lease as lost
	}
	onSettled = func() {}
	d.mu.Lock()
	was, lost := d.settled, d.cause
	if was == open {
		d.settled = s
		if d.onSettled != nil {
			onSettled, d.onSettled = d.onSettled, nil
		}
	}
	d.mu.Unlock()
	switch {
	case was == s:
		return false, onSettled, nil
	case was != open:
		return false, onSettled, fmt.Errorf("%w: it was %v", ErrAlreadySettled, was)
	}
	if d.inFlight != nil {
		d.inFlight.remove(d)
	}
	return lost == nil, onSettled, lost
}

// ReceivedAt returns when the run received the delivery from its source. It returns the zero time
// if the delivery was created outside a run.
func (d *Delivery) ReceivedAt() time.Time { return d.received }

// Settled reports whether the delivery has been settled.
func (d *Delivery) Settled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settled != open
}

// Extend extends the lease until duration from now, and returns when the lease will expire. If the
// source reports that the lease is lost, the delivery is marked lost. Extend returns an error that
// wraps ErrLeaseLost if the lease has already expired, because the source may have delivered the
// task to another worker.
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

// request is callSource for a settlement. The run counts the settlements in flight.
func (d *Delivery) request(settle func() error) error {
	if d.inFlight != nil {
		d.inFlight.settling.Add(1)
		defer d.inFlight.settling.Add(-1)
	}
	return d.callSource(settle)
}

// callSource calls request, which calls a method of the lease. A panic in it becomes an
// error.
func (d *Delivery) callSource(request func() error) error {
	if d.inFlight == nil || d.inFlight.reach == nil || !d.leased {
		return recovered(request)
	}
	return d.inFlight.reach.observe(isSourceResponse, func() error { return recovered(request) })
}

// isSourceResponse reports whether an error of a Lease means that the source has responded. Any
// other error means that there was no response.
func isSourceResponse(err error) bool {
	return errors.Is(err, ErrLeaseLost) || errors.Is(err, ErrPermanent)
}

// ExpiresAt returns when the lease expires, as known when the task was received. It is zero
// if the lease never expires.
func (d *Delivery) ExpiresAt() time.Time { return d.lease.ExpiresAt() }

// RemainingLease returns the remaining time of the lease. Time for which the machine was
// suspended counts as elapsed. The result is 0 or negative if the lease has expired, and
// the maximum duration if it never expires.
func (d *Delivery) RemainingLease() time.Duration {
	if !d.leased {
		return math.MaxInt64
	}
	d.mu.Lock()
	until := d.until
	d.mu.Unlock()
	return until.Sub(boottime.Now())
}

// Held reports whether the lease is known to hold now. If it has expired, for example
// because the process was stopped for a long time, Held marks the delivery lost.
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
	overdue := boottime.Now().Sub(until)
	if overdue < 0 {
		return true
	}
	d.mu.Lock()
	extended := !d.until.Equal(until)
	d.mu.Unlock()
	if extended {
		return d.Held()
	}
	d.MarkLeaseLost(fmt.Errorf("the lease expired %v ago", overdue.Round(time.Millisecond)))
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

// withhold reports whether the event of the delivery must not be written, because the lease may
// have expired. Once withhold has returned true, the event is never written.
func (d *Delivery) withhold() bool {
	if d.Held() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.withheld = true
	return true
}

// Lost returns a channel that is closed when the lease is lost. Then the task must be
// killed and must not be acknowledged.
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

// MarkLeaseLost marks the delivery lost because of cause, which is wrapped so that it
// matches ErrLeaseLost. Only the first call has an effect, and only before the delivery is
// settled. MarkLeaseLost reports whether this call had an effect.
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

// ReleaseSlot reports that the task no longer occupies a slot, so that another task may be
// fetched. The stage that executes tasks calls it; settling a delivery has the same effect.
// Repeated calls do nothing.
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

// delivery implements Item, also for types that embed *Delivery.
func (d *Delivery) delivery() *Delivery { return d }

// noLease is the lease on a task that cannot be lost.
type noLease struct{}

func (noLease) Ack(context.Context) error                    { return nil }
func (noLease) Release(context.Context, time.Duration) error { return nil }
func (noLease) ExpiresAt() time.Time                         { return time.Time{} }
func (noLease) Extend(context.Context, time.Duration) (time.Time, error) {
	return time.Time{}, nil
}
