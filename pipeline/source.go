package pipeline

import (
	"context"
	"errors"
	"time"
)

// Source provides tasks.
type Source interface {
	// Receive returns between one and limit deliveries. It blocks until at least one is available.
	// When the source is exhausted, Receive returns io.EOF and no deliveries.
	//
	// When ctx is done, Receive returns promptly. If it has already received deliveries from the
	// provider, it either returns them with a nil error or releases them and returns ctx's error.
	// If it has received no deliveries, it returns ctx's error. After that, Receive can be called
	// again with another context.
	//
	// Any other error ends the run. Receive may return deliveries together with such an error. The
	// run then processes the deliveries, too. io.EOF and errors that end the run are final: further
	// calls return the same error and no deliveries.
	//
	// Calls of Receive do not overlap, and none follows Close. The caller owns the deliveries and settles
	// each of them once.
	Receive(ctx context.Context, limit int) ([]*Delivery, error)

	// Close releases the resources of the Source. It is called after the last Receive has returned
	// and every delivery has been settled. It returns at the latest when ctx is done. Further calls
	// do nothing and return nil.
	Close(ctx context.Context) error
}

// Hints describe a Source to the Run, which determines from them how many tasks to prefetch.
type Hints struct {
	// Shared states that other workers consume the same source. After tasks have proved to be
	// short, the Run prefetches as many of them as the slots finish in one second. It releases
	// fetched tasks that cannot start within 5 s, because another worker may have a free slot.
	// Defaults to false, which means that fetched tasks wait for a slot without a time limit.
	Shared bool
	// BatchSize is the number of deliveries that the source can return in one request, such as 10
	// for SQS. While prefetched tasks keep the slots busy, the Run calls Receive only when it may
	// fetch that many deliveries. Defaults to 1; the maximum is 256.
	BatchSize int
}

// Hinter is a Source that provides Hints.
type Hinter interface {
	// Hints returns the same value each time. It is called before the first Receive.
	Hints() Hints
}

// HealthReporter is a Source that can report that its provider is unreachable. Two options of a Run
// need this report. With Options.IdleTimeout, the Run must distinguish an empty source from an
// unreachable one. With Options.UnreachableTimeout, the Run must measure how long the provider has
// been unreachable.
type HealthReporter interface {
	// LastFailure returns the last time at which requests for tasks failed. If requests fail now,
	// it returns the current time. If no request ever failed, it returns the zero time. LastFailure
	// may be called from any goroutine.
	LastFailure() time.Time
}

// ErrIdle is returned by Idler.ReceiveUntilIdle when the source is idle.
var ErrIdle = errors.New("the source has been idle for the idle timeout")

// Idler is a Source whose provider holds a request open until a task arrives (long polling). If
// Options.IdleTimeout is set, a Run calls ReceiveUntilIdle instead of Receive, and the Source
// determines when it is idle. The Run cannot determine this itself: while a request is open, the
// provider may already have sent a response with a task. If the Run canceled the request, that task
// could be lost.
type Idler interface {
	// ReceiveUntilIdle is like Receive, but returns ErrIdle and no deliveries if the source is
	// idle. The source is idle if no request is open, and its last request returned no task and
	// ended at about idleAt() or later. ReceiveUntilIdle may block past idleAt() while it waits for
	// a response. It calls idleAt only on the goroutine that called ReceiveUntilIdle. idleAt may
	// return a later time at each call.
	ReceiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) ([]*Delivery, error)
}
