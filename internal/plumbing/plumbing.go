// Package plumbing declares methods of pipeline.Run and pipeline.Delivery that the stages of this
// module need, but that are not part of the public API.
package plumbing

import "time"

// A Run is the part of a pipeline.Run that the execution stage uses. Its methods are safe for
// concurrent use.
type Run interface {
	// SharedSource returns Options.SharedSource: whether other workers consume the same source.
	SharedSource() bool
	// ObserveDuration records how long a task occupied its slot. If the source is shared, the Run
	// adjusts the prefetch to the durations.
	ObserveDuration(time.Duration)
	// SetPrefetch sets the number of tasks to prefetch, but not below Options.Prefetch. It has no
	// effect if the source is shared.
	SetPrefetch(int)
}

// A Delivery is the part of a pipeline.Delivery that the stages for lease extension and settlement
// use. Its methods are safe for concurrent use.
type Delivery interface {
	// Number returns how many deliveries the run received before this one.
	Number() int64
	// OnSettled registers a function that is called once, when the lease need not be extended any
	// more. That is the case before a release is sent to the source, and after an acknowledgment.
	// If the delivery has already been settled, OnSettled calls the function at once. Only one
	// function can be registered.
	OnSettled(func())
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
