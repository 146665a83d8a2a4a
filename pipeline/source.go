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

// A Prober is a Source that asks a provider that may be unreachable. A Run that ends when
// there is nothing to do (Options.IdleTimeout) asks it whether that is so or cannot be
// known, and one that ends when nobody answers (Options.UnreachableTimeout) for how long.
type Prober interface {
	// Unanswered is when the Source last could not ask for tasks: now, if it cannot
	// at the moment, and the zero time if it always could.
	Unanswered() time.Time
}

// ErrIdle is returned by an Idler that has had no task for long enough.
var ErrIdle = errors.New("there has been nothing to do")

// An Idler is a Source whose requests wait for a task. A Run with an IdleTimeout leaves it
// to the Source to end: an answer that is late does not mean that there is no task, and a
// request that is left behind may take a task with it.
type Idler interface {
	// ReceiveUntilIdle is Receive, but returns ErrIdle, and no deliveries, once a
	// request that was answered at about the time that idleAt returns, or later, has
	// brought nothing, and no other request is under way. It blocks beyond that time if
	// there is no answer. idleAt may return a later time with each call, and is called
	// by the goroutine that called ReceiveUntilIdle.
	ReceiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) ([]*Delivery, error)
}
