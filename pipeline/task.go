package pipeline

import (
	"encoding/json"
	"time"

	"github.com/ctworker/ctworker/internal/outcome"
)

// Task is one unit of work. It is immutable: once a Task has been passed to a Delivery,
// nothing may write to Data.
type Task struct {
	// ID is the task_id of the specification. It is never empty.
	ID string
	// Data is the task's input as raw JSON, byte for byte as the source provided it. No
	// stage decodes it.
	Data json.RawMessage
}

// AppendJSON appends the task as {"task_id": "...", "data": ...}, the format of task
// queues, on one line, and returns the extended buffer. Data that is not valid JSON becomes
// a string.
func (t Task) AppendJSON(b []byte) []byte {
	b = append(b, `{"task_id":`...)
	b = appendString(b, t.ID)
	b = append(b, `,"data":`...)
	b = appendValue(b, t.Data)
	return append(b, '}')
}

// OutcomeKind is the way in which a task's execution ended. Its String method returns the name of the
// kind in lower case, such as "timed out".
type OutcomeKind = outcome.Kind

// The kinds of outcomes. The zero OutcomeKind is invalid, so that an Outcome that was not
// filled in does not count as a success.
const (
	// Completed: the task returned a result and did or did not request a retry.
	Completed = outcome.Completed
	// Exception: the task's code raised an exception, or its result was invalid.
	Exception = outcome.Exception
	// TimedOut: the task exceeded the maximum runtime and was killed.
	TimedOut = outcome.TimedOut
	// Exited: the task's process ended without a result, with an exit code that means
	// failure or by a signal.
	Exited = outcome.Exited
	// Interrupted: the task was terminated because the worker shut down. Its result is
	// unknown.
	Interrupted = outcome.Interrupted
	// LeaseLost: the lease was lost while the task ran, so its process was killed. Another
	// worker may run the task.
	LeaseLost = outcome.LeaseLost
)

// Usage is the resource usage of a task's process and the children it waited for.
type Usage struct {
	// CPU is user plus system time.
	CPU time.Duration
	// PeakMemory is the largest resident set size in bytes.
	PeakMemory int64
}

// Outcome is the result of executing a task once.
type Outcome struct {
	Kind OutcomeKind
	// Slot is the slot that ran the task, from 0.
	Slot int
	// Elapsed is the duration of the execution, including process creation and destruction.
	Elapsed time.Duration
	// RetryRequested reports whether a Completed task requested a retry.
	RetryRequested bool
	// Result is the result of a Completed task: one JSON value.
	Result json.RawMessage
	// RawResult replaces Result if the result is not valid UTF-8, which JSON cannot
	// represent.
	RawResult []byte
	// Exception is the stack trace or message of an Exception.
	Exception string
	// Permanent reports that another attempt would raise the same Exception, as the task's process
	// has reported. For example, the process ran out of memory.
	Permanent bool
	// ExitCode is set for Exited: the exit code of the process, or the negated number of
	// the signal that killed it.
	ExitCode int
	// Usage is nil if the usage is unknown, for example for tasks that share a process.
	Usage *Usage
}

// Verdict is the action to take on a task after its Outcome.
type Verdict uint8

// The verdicts. The zero Verdict is invalid.
const (
	// Ack: the task is finished and must not be delivered again.
	Ack Verdict = iota + 1
	// Retry: this attempt is finished, and the task is released for another attempt.
	Retry
	// Release: the task did not finish. It is released as if it had not been received, and no event
	// is written.
	Release
)

// String returns "ack", "retry" or "release".
func (v Verdict) String() string {
	switch v {
	case Ack:
		return "ack"
	case Retry:
		return "retry"
	case Release:
		return "release"
	default:
		return "invalid"
	}
}

// Result is a Delivery that has been executed, and its Outcome.
type Result struct {
	*Delivery
	Outcome Outcome
}

// Decision is a Result and the Verdict on it.
type Decision struct {
	*Delivery
	Outcome Outcome
	Verdict Verdict
	// RetryDeniedReason is the reason why a task that qualifies for a retry is not retried. It is
	// "" for other tasks.
	RetryDeniedReason string
}
