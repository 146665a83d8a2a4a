package pipeline

import (
	"encoding/json"
	"time"
)

// A Task is one unit of work: a name and its input. It is immutable: nothing
// in a pipeline writes to Data, and whoever made the Task does not either once
// it has been handed over.
type Task struct {
	// ID is the task_id of the specification. It is never empty.
	ID string
	// Data is the task's input as raw JSON, byte for byte as the source had
	// it. No stage decodes it on the way.
	Data json.RawMessage
}

// AppendJSON appends the task as queues have it, {"task_id": "...", "data": ...}, on
// one line, and returns the extended buffer. Data that is no JSON becomes a string.
func (t Task) AppendJSON(b []byte) []byte {
	b = append(b, `{"task_id":`...)
	b = appendString(b, t.ID)
	b = append(b, `,"data":`...)
	b = appendValue(b, t.Data)
	return append(b, '}')
}

// Kind says how a task's execution ended.
type OutcomeKind uint8

// The ways an execution can end. The zero Kind is invalid, so that an Outcome
// that nobody filled in cannot pass for a success.
const (
	// Completed: the task returned a result and said whether it wants a retry.
	Completed OutcomeKind = iota + 1
	// Exception: the task's code raised, or its result could not be used.
	Exception
	// TimedOut: the task ran longer than the maximum runtime and was killed.
	TimedOut
	// Exited: the task's process ended without a result: an exit code that
	// means failure, or a signal.
	Exited
	// Interrupted: the worker was shutting down and ended the task. Nothing is
	// known of what it would have come to.
	Interrupted
	// LeaseLost: the source took the task back while it ran, so the process
	// was killed. Another worker has the task.
	LeaseLost
)

// String returns the kind's name in lower case, such as "timed out".
func (k OutcomeKind) String() string {
	switch k {
	case Completed:
		return "completed"
	case Exception:
		return "exception"
	case TimedOut:
		return "timed out"
	case Exited:
		return "exited"
	case Interrupted:
		return "interrupted"
	case LeaseLost:
		return "lease lost"
	default:
		return "invalid"
	}
}

// Usage is what a task's process, and the children it waited for, used of the
// machine.
type Usage struct {
	// CPU is user plus system time.
	CPU time.Duration
	// PeakMemory is the largest resident set size in bytes.
	PeakMemory int64
}

// An Outcome is what came of running a task once.
type Outcome struct {
	Kind OutcomeKind
	// Slot is the unit of concurrency that ran the task, from 0.
	Slot int
	// Elapsed is the time the task took, process creation and destruction
	// included.
	Elapsed time.Duration
	// Retry is what a Completed task asked for.
	RetryRequested bool
	// Result is a Completed task's result: one JSON value.
	Result json.RawMessage
	// RawResult stands in for Result where the result is not UTF-8 and so
	// cannot be told as JSON text.
	RawResult []byte
	// Exception is the stack trace or message of an Exception.
	Exception string
	// NoRetry is set for an Exception that another attempt would only repeat,
	// as the task's process knows, such as one for lack of memory.
	Permanent bool
	// ExitCode is set for Exited: the process's exit code, or minus the number
	// of the signal that ended it.
	ExitCode int
	// Usage is nil where the runner cannot tell it, as for tasks that share a
	// process.
	Usage *Usage
}

// A Verdict is what is to be done with a task after its Outcome.
type Verdict uint8

// The verdicts. The zero Verdict is invalid.
const (
	// Ack: the task is over and must not be delivered again.
	Ack Verdict = iota + 1
	// Retry: the task is over here and is to be made available for another
	// attempt.
	Retry
	// Release: the task was not run to an end and is to be made available
	// again as if it had not been taken. No event tells of it.
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

// A Result is a Delivery that has been run, with what came of it.
type Result struct {
	*Delivery
	Outcome Outcome
}

// A Decision is a Result with the Verdict on it.
type Decision struct {
	*Delivery
	Outcome Outcome
	Verdict Verdict
	// RetryDeniedReason is why a task that is worth another attempt gets none, or "".
	RetryDeniedReason string
}
