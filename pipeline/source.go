package pipeline

import (
	"context"
	"errors"
	"time"
)

// A Source is where tasks come from.
type Source interface {
	// Receive returns between one and limit deliveries, and blocks until there
	// is at least one. It returns io.EOF, and no deliveries, once there will
	// never be another. When ctx ends it returns ctx's error promptly; what it
	// had taken from the provider by then it either returns, with a nil error,
	// or releases: it strands nothing.
	//
	// Deliveries that come with an error are valid and are processed before
	// the error is acted on. Any error but io.EOF and ctx's own ends the run.
	//
	// One goroutine calls Receive. The caller owns what it returns, and
	// settles each delivery once.
	Receive(ctx context.Context, limit int) ([]*Delivery, error)

	// Close releases what the Source holds. It is called once, after the last
	// Receive has returned and every delivery has been settled. ctx bounds how
	// long it may take.
	Close(ctx context.Context) error
}

// A HealthReporter is a Source that can report that its provider is unreachable. A Run uses it for
// Options.IdleTimeout, to distinguish an empty source from an unreachable one, and for
// Options.UnreachableTimeout.
type HealthReporter interface {
	// LastFailure returns the last time at which requests for tasks failed: the current
	// time if they fail now, and the zero time if none ever failed.
	LastFailure() time.Time
}

// ErrIdle is returned by an Idler that has been idle until the time that idleAt returns.
var ErrIdle = errors.New("there has been nothing to do")

// An Idler is a Source whose requests wait for a task on the provider's side. A Run with an
// IdleTimeout lets such a Source decide when it is idle, for two reasons: a late response does
// not mean that there is no task, and an abandoned request may take a task with it.
type Idler interface {
	// ReceiveUntilIdle is like Receive, but returns ErrIdle and no deliveries once the
	// source is idle: a request that was answered at about the time that idleAt returns,
	// or later, brought no task, and no other request is under way. It blocks beyond that
	// time while there is no response. idleAt may return a later time with each call. It
	// is called by the goroutine that called ReceiveUntilIdle.
	ReceiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) ([]*Delivery, error)
}
