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
	// ErrLeaseLost is returned if the lease on a task has ended. Another worker may have received
	// the task, so the caller must neither acknowledge nor report the task.
	ErrLeaseLost = errors.New("lease lost")

	// ErrPermanent is returned if the source refuses a request for a reason that applies to every
	// task, for example because a permission is missing. If the request was an acknowledgment or a
	// release, the run fails. If the request was a lease extension, it is retried until the lease
	// expires.
	ErrPermanent = errors.New("the source refuses the request")

	// ErrAlreadySettled is returned if a delivery is settled a second time in a different way, for
	// example released after it was acknowledged. The error indicates a bug in a stage.
	ErrAlreadySettled = errors.New("delivery already settled")
)

// Lease is the temporary exclusive right of one worker to execute a task. The source grants the
// lease. The methods of a Lease may block on the network and may be called from any goroutine. They
// retry transient errors. When ctx is done, they return promptly. If the source reports that the
// lease has already ended, they return an error that wraps ErrLeaseLost. A panic in a method counts
// as an error.
//
// Ack and Release end the lease. A Delivery calls at most one of these methods, and only once.
type Lease interface {
	// Ack removes the task from the source, so that it is not delivered again.
	Ack(ctx context.Context) error
	// Release makes the task available again after delay, or immediately if delay is 0.
	Release(ctx context.Context, delay time.Duration) error
	// Extend sets the lease to expire at d from now, and returns the time at which it expires. It may
	// round d down, by less than a second, and limit it to the minimum and maximum that the source
	// supports. If the source reports no time, use the time before the request was sent plus d.
	Extend(ctx context.Context, d time.Duration) (time.Time, error)
	// ExpiresAt returns the expiration time that the lease had when it was received. Extend does not
	// change this value. The zero time means that the lease never expires. If the source reports no
	// time, use the time before the request was sent plus the duration of the lease.
	ExpiresAt() time.Time
}

// Delivery is a Task received from a Source, and the Lease on it.
//
// One goroutine owns a Delivery at any time. Sending the Delivery on a channel transfers the
// ownership. The last owner must settle the Delivery by calling Ack, Release or LetExpire. A
// settled Delivery cannot be settled in a different way: for example, Release after Ack returns
// ErrAlreadySettled.
type Delivery struct {
	Task Task
	// Attempt is the number of times the task has been delivered, including this delivery.
	Attempt int

	lease    Lease
	received time.Time    // when the run received the delivery
	number   int64        // number of deliveries that the run received before this one
	sentBy   atomic.Int32 // position of the last stage that passed the delivery on; see stageState
	leased   bool         // the lease can expire
	rerun    bool         // the task had a final event in an earlier run

	mu        sync.Mutex
	until     time.Time // when the lease expires, on the clock of package boottime; valid if leased
	withheld  bool      // the event of the task was not written because the lease was lost
	reported  bool      // the loss of the lease has been logged
	settled   settlement
	lost      chan struct{} // created by the first call of Lost or markLeaseLost
	cause     error         // why the lease was lost, or nil
	onSettled func()        // function registered with plumbing.Delivery.OnSettled, or nil

	// The tracker of the run, or nil if the delivery was created outside a run. The fields below
	// belong to the tracker; see inflight.go.
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

// NewDelivery returns an unsettled delivery. If lease is nil, for example because the task comes
// from a local file, the delivery never expires, and settling it sends no request. NewDelivery
// replaces an attempt below 1 by 1.
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
		spareBlock.Store(b) // may replace a block that another goroutine has stored; that block is then freed
	}
	d.init(task, lease, attempt)
	return d
}

// A block holds several deliveries in one allocation. An allocation per task would be too slow for
// tasks that take only a few microseconds. The memory of a block is freed only when all its
// deliveries have been dropped.
type block struct {
	deliveries [32]Delivery
	used       int
}

// maxBlockTaskBytes is the maximum size of Task.Data for a delivery in a block. A delivery with
// more data is allocated alone, because in a block its data would stay in memory until the other
// deliveries of the block are dropped.
const maxBlockTaskBytes = 4 << 10

// spareBlock is a block with unused deliveries. It is nil while a goroutine takes a delivery from
// the block. A sync.Pool cannot be used, because it drops blocks at random under the race detector.
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

// Ack settles the delivery because the task is finished. If the lease was lost, Ack sends no
// request to the source and returns ErrLeaseLost. A second Ack does nothing. Ack after Release or
// LetExpire returns ErrAlreadySettled.
func (d *Delivery) Ack(ctx context.Context) error {
	notifySource, onSettled, err := d.settle(acked)
	if err == nil && notifySource {
		if d.leased {
			err = d.request(func() error { return d.lease.Ack(ctx) })
		} else {
			err = d.lease.Ack(ctx)
		}
	}
	// Stop extending the lease only after the request, because the lease must hold while Ack is retried.
	onSettled()
	if err != nil {
		return fmt.Errorf("ack task %q: %w", d.Task.ID, err)
	}
	return nil
}

// Release settles the delivery so that the task becomes available again after delay. If the lease
// was lost, the task is available already: Release sends no request and returns nil.
func (d *Delivery) Release(ctx context.Context, delay time.Duration) error {
	notifySource, onSettled, err := d.settle(released)
	// Stop extending the lease before the request, because an extension would undo the release.
	onSettled()
	if err == nil && notifySource {
		err = d.request(func() error { return d.lease.Release(ctx, delay) })
	}
	if err != nil && !errors.Is(err, ErrLeaseLost) {
		return fmt.Errorf("release task %q: %w", d.Task.ID, err)
	}
	return nil
}

// LetExpire settles the delivery without a request to the source. The task becomes available when
// its lease expires. Use LetExpire for a task that this worker must not receive again immediately,
// for example because the worker skips the task.
func (d *Delivery) LetExpire() error {
	_, onSettled, err := d.settle(expires)
	onSettled()
	if err != nil && !errors.Is(err, ErrLeaseLost) {
		return fmt.Errorf("let the lease of task %q expire: %w", d.Task.ID, err)
	}
	return nil
}

// settle changes the state of the delivery from open to s, and removes the delivery from the
// tracker of the run. notifySource is true on the first call if the lease is held. The caller must
// then send a request to the source. The caller must call onSettled after every call of settle. It
// does nothing unless this is the first call.
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

// isSettled reports whether the delivery has been settled.
func (d *Delivery) isSettled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settled != open
}

// Extend sets the lease to expire at duration from now, and returns that time. If the source
// reports that the lease is lost, Extend marks the delivery lost. If the lease has already expired,
// Extend sends no request, because the source may have delivered the task to another worker. In
// both cases the error wraps ErrLeaseLost.
func (d *Delivery) Extend(ctx context.Context, duration time.Duration) (time.Time, error) {
	if !d.Held() {
		return time.Time{}, d.lostError()
	}
	var until time.Time
	// Read this value before the request. If the machine is suspended during the request, the time
	// of the suspension must count as elapsed lease time.
	suspended := boottime.Suspended()
	err := d.callSource(func() (err error) { until, err = d.lease.Extend(ctx, duration); return err })
	if err != nil {
		err = fmt.Errorf("extend task %q: %w", d.Task.ID, err)
		if errors.Is(err, ErrLeaseLost) {
			d.markLeaseLost(err)
		}
		return until, err
	}
	if !d.leased {
		return until, nil
	}
	d.mu.Lock()
	d.until = until.Add(suspended)
	d.mu.Unlock()
	if !d.Held() { // the response arrived after the extended lease had expired
		return until, d.lostError()
	}
	return until, nil
}

// request calls settle, which sends an acknowledgment or a release to the source. The run counts
// such requests while they are in flight.
func (d *Delivery) request(settle func() error) error {
	if d.inFlight != nil {
		d.inFlight.settling.Add(1)
		defer d.inFlight.settling.Add(-1)
	}
	return d.callSource(settle)
}

// callSource calls request, which calls a method of the lease, and records whether the source
// responded. A panic in request becomes an error.
func (d *Delivery) callSource(request func() error) error {
	if d.inFlight == nil || d.inFlight.reach == nil || !d.leased {
		return recovered(request)
	}
	return d.inFlight.reach.observe(isSourceResponse, func() error { return recovered(request) })
}

// isSourceResponse reports whether err, returned by a method of a Lease, was caused by a response
// of the source. Any other error means that the source did not respond.
func isSourceResponse(err error) bool {
	return errors.Is(err, ErrLeaseLost) || errors.Is(err, ErrPermanent)
}

// remainingLease returns the time until the lease expires. Time during which the machine is
// suspended counts as elapsed. If the lease has expired, the result is 0 or negative. If the lease
// never expires, the result is the maximum duration.
func (d *Delivery) remainingLease() time.Duration {
	if !d.leased {
		return math.MaxInt64
	}
	d.mu.Lock()
	until := d.until
	d.mu.Unlock()
	return until.Sub(boottime.Now())
}

// Held reports whether the lease is known to hold now. If the lease has expired, for example
// because this process was stopped for a long time, Held marks the delivery lost.
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
	d.markLeaseLost(fmt.Errorf("the lease expired %v ago", overdue.Round(time.Millisecond)))
	return false
}

func (d *Delivery) lostError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause == nil { // the lease expired after the delivery was settled
		return ErrLeaseLost
	}
	return d.cause
}

// withhold reports whether the lease may have expired. The event of the delivery must then not be
// written. After withhold has returned true, it always returns true.
func (d *Delivery) withhold() bool {
	if d.Held() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.withheld = true
	return true
}

// Lost returns a channel that is closed when the lease is lost. The task must then be killed, and
// the delivery must not be acknowledged.
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

// markLeaseLost marks the lease as lost. Other methods then return an error that wraps ErrLeaseLost
// and cause. markLeaseLost does nothing if the lease is already lost or the delivery is settled.
func (d *Delivery) markLeaseLost(cause error) {
	if !errors.Is(cause, ErrLeaseLost) {
		cause = fmt.Errorf("%w: %w", ErrLeaseLost, cause)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause == nil && d.settled == open {
		d.cause = cause
		close(d.lostChan())
	}
}

// ReleaseSlot reports that the task no longer occupies a slot, so that the run can fetch another
// task. The stage that executes tasks calls ReleaseSlot. Settling a delivery has the same effect.
// Repeated calls do nothing.
func (d *Delivery) ReleaseSlot() {
	if d.inFlight != nil {
		d.inFlight.releaseSlot(d)
	}
}

// taskEnded records that the task does not run any more, although the delivery is not settled yet.
func (d *Delivery) taskEnded() {
	if d.inFlight != nil {
		d.inFlight.taskEnded(d)
	}
}

// delivery implements Item. Types that embed *Delivery inherit it.
func (d *Delivery) delivery() *Delivery { return d }

// noLease is the lease on a task that only this worker can receive, for example from a local file.
type noLease struct{}

func (noLease) Ack(context.Context) error                    { return nil }
func (noLease) Release(context.Context, time.Duration) error { return nil }
func (noLease) ExpiresAt() time.Time                         { return time.Time{} }
func (noLease) Extend(context.Context, time.Duration) (time.Time, error) {
	return time.Time{}, nil
}
