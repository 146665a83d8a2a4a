package pipeline

import (
	"context"
	"errors"
	"time"
)

// Source provides tasks.
type Source interface {
	// Receive returns between one and limit deliveries. It blocks until at least one is
	// available. After the last delivery it returns io.EOF and no deliveries.
	//
	// If ctx is done, Receive returns ctx's error promptly. Deliveries that it has already
	// received from the provider must not be stranded: it returns them with a nil error, or
	// releases them.
	//
	// Deliveries returned along with an error are valid and are processed before the error.
	// Any error other than io.EOF and ctx's error ends the run.
	//
	// Receive is called from one goroutine. The caller owns the deliveries and settles each
	// of them once.
	Receive(ctx context.Context, limit int) ([]*Delivery, error)

	// Close releases the resources of the Source. It is called once, after the last Receive
	// has returned and every delivery has been settled. It returns when ctx is done, at the
	// latest.
	Close(ctx context.Context) error
}

// HealthReporter is a Source that can report that its provider is unreachable. A Run uses
// it for Options.IdleTimeout, to distinguish an empty source from an unreachable one, and
// for Options.UnreachableTimeout.
type HealthReporter interface {
	// LastFailure returns the last time at which requests for tasks failed. If they fail now, it
	// returns the current time. If none ever failed, it returns the zero time. It may be called
	// from any goroutine.
	LastFailure() time.Time
}

// ErrIdle is returned by Idler.ReceiveUntilIdle when the source is idle.
var ErrIdle = errors.New("the source has been idle for the idle timeout")

// Idler is a Source whose provider holds a request open until a task arrives (long
// polling). A Run with an IdleTimeout lets such a Source decide when it is idle, for two
// reasons: a late response does not mean that there are no tasks, and canceling a request
// may lose a task that is being delivered.
type Idler interface {
	// ReceiveUntilIdle is like Receive, but returns ErrIdle and no deliveries if the source is
	// idle: its last request brought no task and returned at about idleAt() or later, and no other
	// request is open. It may block past idleAt() while it waits for a response. idleAt may return
	// a later time at each call. The goroutine that called ReceiveUntilIdle calls idleAt.
	ReceiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) ([]*Delivery, error)
}
