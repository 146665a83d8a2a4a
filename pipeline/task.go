package pipeline

import (
	"encoding/json"
	"time"

	"github.com/ctworker/ctworker/internal/outcome"
)

// Task is one unit of work. A Task is immutable: nothing may write to the bytes of Data after the Task has
// been passed to a Delivery. A stage that owns the Delivery may replace the Task in it.
type Task struct {
	// ID is the task_id of the specification. It is never empty.
	ID string
	// Data is the task's input as raw JSON, byte for byte as the source provided it. No stage
	// decodes Data.
	Data json.RawMessage
}

// AppendJSON appends the task as {"task_id": "...", "data": ...} on one line, and returns the
// extended buffer. Task queues use this format. AppendJSON removes the white space between the tokens of
// Data. If Data is not valid JSON, AppendJSON writes it as a string.
func (t Task) AppendJSON(b []byte) []byte {
	b = append(b, `{"task_id":`...)
	b = appendString(b, t.ID)
	b = append(b, `,"data":`...)
	b = appendValue(b, t.Data)
	return append(b, '}')
}

// OutcomeKind is the way in which the execution of a task ended. Its String method returns the name
// in lower case, such as "timed out".
type OutcomeKind = outcome.Kind

// The kinds of outcomes. The zero OutcomeKind is invalid, because an Outcome without a kind must
// not count as a success.
const (
	// Completed: the task returned a result. It may have requested a retry.
	Completed = outcome.Completed
	// Exception: the task's code raised an exception, or its result was invalid.
	Exception = outcome.Exception
	// TimedOut: the task exceeded the maximum runtime and was killed.
	TimedOut = outcome.TimedOut
	// Exited: the task's process ended without a result. It returned an exit code that means
	// failure, or a signal killed it.
	Exited = outcome.Exited
	// Interrupted: the task was terminated because the worker shut down. Whether the task has done
	// its work is unknown.
	Interrupted = outcome.Interrupted
	// LeaseLost: the lease was lost while the task ran. The task's process was killed, because
	// another worker may run the task.
	LeaseLost = outcome.LeaseLost
)

// Usage is the resource usage of a task's process. It includes child processes for which the
// process has waited.
type Usage struct {
	// CPU is the sum of user and system time.
	CPU time.Duration
	// PeakMemory is the maximum resident set size in bytes.
	PeakMemory int64
}

// Outcome is the result of executing a task once.
type Outcome struct {
	Kind OutcomeKind
	// Slot is the slot that ran the task, from 0.
	Slot int
	// Elapsed is the duration of the execution. It includes the time to create and end the process.
	Elapsed time.Duration
	// RetryRequested reports whether a Completed task requested a retry.
	RetryRequested bool
	// Result is the result of a Completed task: one JSON value.
	Result json.RawMessage
	// RawResult is set instead of Result if the result is not valid UTF-8, because a JSON value
	// must be valid UTF-8.
	RawResult []byte
	// Exception is a stack trace or a message if Kind is Exception.
	Exception string
	// Permanent is true if the task's process has reported that another attempt would raise the
	// same Exception, for example because the memory limit of the process made the task fail.
	Permanent bool
	// ExitCode is set if Kind is Exited. It is the exit code of the process. If a signal killed the
	// process, it is the negative signal number.
	ExitCode int
	// StderrLine is set if Kind is Exited or TimedOut. It is the last line that the process wrote
	// to its standard error, or "" if the line is unknown.
	StderrLine string
	// Usage is nil if the usage is unknown, for example because the task shares its process with
	// other tasks.
	Usage *Usage
}

// Verdict determines what happens to a task after its execution.
type Verdict uint8

// The verdicts. The zero Verdict is invalid.
const (
	// Ack: the task is finished and must not be delivered again.
	Ack Verdict = iota + 1
	// Retry: this attempt is reported as finished, and the task is released for another attempt.
	Retry
	// Release: the task did not finish. It is released as if it had not been received, and this
	// attempt is not reported in an event.
	Release
)

// Result is a Delivery whose task has been executed, together with the Outcome of the task.
type Result struct {
	*Delivery
	Outcome Outcome
}

// Decision is a Result, together with the Verdict on its task.
type Decision struct {
	*Delivery
	Outcome Outcome
	Verdict Verdict
	// RetryDeniedReason is the reason why a task is not retried although its outcome qualifies for
	// a retry. It is "" for other tasks.
	RetryDeniedReason string
}
