// Package plumbing declares the parts of package pipeline that the stages of this module use but
// that are not public.
package plumbing

import "time"

// A Run is the part of a pipeline.Run that the stage which executes tasks uses. Its methods are
// safe for concurrent use.
type Run interface {
	// SharedSource reports Options.SharedSource.
	SharedSource() bool
	// ObserveDuration records how long a task occupied its slot. The Run adjusts the prefetch
	// from a shared source to it.
	ObserveDuration(time.Duration)
	// SetPrefetch changes Options.Prefetch, but not below its initial value. It has no effect
	// with a shared source.
	SetPrefetch(int)
}

// A Delivery is the part of a pipeline.Delivery that the stages which extend leases and settle
// use. Its methods are safe for concurrent use.
type Delivery interface {
	// Number returns the position of the delivery in the run, from 0.
	Number() int64
	// OnSettled registers a function to be called once when the lease need no longer be
	// extended: before a release is sent to the source, and after an acknowledgment. It is
	// called at once if the delivery has been settled. Only one function can be registered.
	OnSettled(func())
	// TaskEnded reports that the task does not run any more, although its result has not been passed
	// on yet.
	TaskEnded()
	// Withheld reports whether the event was not written because the lease was lost; see
	// pipeline.Event.
	Withheld() bool
	// ReportLoss returns why the lease was lost on the first call after that, and nil
	// otherwise, so that the loss is logged once.
	ReportLoss() error
}
