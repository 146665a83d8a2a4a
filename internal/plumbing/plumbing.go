// Package plumbing declares methods of pipeline.Run and pipeline.Delivery that the stages of this
// module need, but that are not part of the public API.
package plumbing

import (
	"context"
	"time"

	"github.com/ctworker/ctworker/internal/prefetch"
)

// A Stage is the part of a running stage that the stages of this module use.
type Stage interface {
	// HoldsDeliveries states that the stage holds deliveries for a long time on purpose. The Run
	// then does not warn about that.
	HoldsDeliveries()
}

type stageKey struct{}

// WithStage returns a copy of ctx that belongs to the stage s; see HoldsDeliveries.
func WithStage(ctx context.Context, s Stage) context.Context {
	return context.WithValue(ctx, stageKey{}, s)
}

// HoldsDeliveries calls Stage.HoldsDeliveries of the stage whose context is ctx. Outside a run, it
// does nothing.
func HoldsDeliveries(ctx context.Context) {
	if s, ok := ctx.Value(stageKey{}).(Stage); ok {
		s.HoldsDeliveries()
	}
}

// A Run is the part of a pipeline.Run that the stages use. Its methods are safe for
// concurrent use.
type Run interface {
	// Prefetch returns the controller that determines how many tasks the Run fetches in advance.
	Prefetch() *prefetch.Controller
	// OnEnd registers a function that Run.Wait calls before it returns. At that time, all stages
	// have returned and all tasks are settled, unless the time to settle is over.
	OnEnd(func())
}

// A Lease is a pipeline.Lease.
type Lease interface {
	Ack(ctx context.Context) error
	Release(ctx context.Context, delay time.Duration) error
	Extend(ctx context.Context, d time.Duration) (time.Time, error)
	ExpiresAt() time.Time
}

// A Delivery is the part of a pipeline.Delivery that the stages for lease extension and settlement
// use. Its methods are safe for concurrent use.
type Delivery interface {
	// ReceivedAt returns when the run received the delivery, or the zero time outside a run.
	ReceivedAt() time.Time
	// ExpiresAt returns the expiration time that the lease had when it was received. An extension
	// does not change the result. The zero time means that the lease never expires.
	ExpiresAt() time.Time
	// Lease returns the lease that the source granted. The test suite for sources calls its methods
	// directly, because a Delivery sends no request if its lease has expired.
	Lease() Lease
	// SetRerun states that the task had a final event in an earlier run.
	SetRerun()
	// IsRerun reports whether SetRerun was called.
	IsRerun() bool
	// OnSettled registers a function that is called once, when the lease need not be extended any
	// more: before a release is sent to the source, or after an acknowledgment. If the delivery has
	// already been settled, OnSettled calls the function immediately. Only one function can be
	// registered.
	OnSettled(func())
	// Settled reports whether the delivery has been settled.
	Settled() bool
	// MarkLeaseLost marks the delivery lost because of cause. It does nothing if the delivery is
	// already lost or settled.
	MarkLeaseLost(cause error)
	// RemainingLease returns the time until the lease expires. Time during which the machine is
	// suspended counts as elapsed. If the lease has expired, the result is 0 or negative. If the
	// lease never expires, the result is the maximum duration.
	RemainingLease() time.Duration
	// TaskEnded reports that the task does not run any more, although its result is still waiting
	// for the next stage.
	TaskEnded()
	// Withheld reports whether the event of the task was not written because the lease was lost;
	// see pipeline.Event.
	Withheld() bool
	// ReportLoss returns why the lease was lost, but only once: later calls return nil. The loss is
	// thus logged once, although several stages detect it. If the lease is not lost, ReportLoss
	// returns nil.
	ReportLoss() error
}
