package pipeline

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// EventType is an event_type of the specification.
type EventType string

// The event types.
const (
	TaskCompleted     EventType = "task_completed"
	TaskException     EventType = "task_exception"
	TaskTimedOut      EventType = "task_timed_out"
	TaskExited        EventType = "task_exited"
	NonFatalException EventType = "non_fatal_exception"
	FatalException    EventType = "fatal_exception"
	SpotTermination   EventType = "spot_termination"
	KeepAlive         EventType = "keep_alive"
)

// Event is one JSON object that reports the outcome of a task, or something else about the run.
// NewTaskEvent returns the event of a task. For other events, set Type, Time and Hostname.
type Event struct {
	// Time is when the event happened. It is written in UTC with microseconds.
	Time time.Time
	// Hostname is the host name of this machine.
	Hostname string
	Type     EventType

	// TaskID, Attempt, Outcome and Retry are the fields of the four event types that report a task.
	// Retry reports whether the task will be retried. It can differ from Outcome.RetryRequested.
	TaskID  string
	Attempt int
	Outcome Outcome
	Retry   bool
	// Rerun states that the task had a final event in an earlier run, which this event replaces.
	Rerun bool
	// NotRetried is the reason why a task is not retried although its outcome qualifies for a
	// retry. It is "" for other tasks.
	NotRetried string

	// Exception and StackTrace are the fields of FatalException and NonFatalException.
	Exception  string
	StackTrace string
	// Message is the complete text of the malformed message that a NonFatalException reports. It is
	// "" if the event reports something else.
	Message string

	// RunID identifies the run of the worker. It is "" if the event has no field run_id.
	RunID string

	// Extra are additional fields. They are written after all other fields, in this order.
	Extra []Field

	// Withheld reports whether the lease on the event's task may have expired. In this case the
	// event must not be written, because another worker may have received the task and will report
	// it. Sink.Write calls Withheld. Withheld is nil for an event that may always be written: an
	// event without a task, or the event of a task whose lease never expires.
	Withheld func() bool
}

// Field is an additional field of an Event.
type Field struct {
	Name string
	// Value is one JSON value.
	Value json.RawMessage
}

// NewTaskEvent returns the event that reports the outcome of a task. For the outcomes Interrupted
// and LeaseLost it returns false, because the task runs again and its next attempt is reported.
func NewTaskEvent(d Decision, hostname string, now time.Time) (Event, bool) {
	e := Event{
		Time: now, Hostname: hostname,
		TaskID: d.Task.ID, Attempt: d.Attempt, Outcome: d.Outcome, Retry: d.Verdict == Retry, Rerun: d.rerun, NotRetried: d.RetryDeniedReason,
	}
	if d.leased {
		e.Withheld = d.withhold
	}
	switch d.Outcome.Kind {
	case Completed:
		e.Type = TaskCompleted
	case Exception:
		e.Type = TaskException
	case TimedOut:
		e.Type = TaskTimedOut
	case Exited:
		e.Type = TaskExited
	default:
		return Event{}, false
	}
	return e, true
}

// appendTime appends t in UTC in the format of the specification: ISO 8601 with microseconds and
// without a time zone. It caches the text up to the second, and formats only the microseconds in
// each call. Formatting the complete time would be most of the cost of encoding a small event.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	at := lastSecond.Load()
	if at == nil || at.unix != t.Unix() {
		at = &second{unix: t.Unix(), text: t.Format("2006-01-02T15:04:05.")}
		lastSecond.Store(at)
	}
	b = append(b, at.text...)
	micro := t.Nanosecond() / 1000
	for unit := 100_000; unit > 0; unit /= 10 {
		b = append(b, byte('0'+micro/unit%10))
	}
	return b
}

// lastSecond is the cache of appendTime.
var lastSecond atomic.Pointer[second]

type second struct {
	unix int64
	text string
}

// AppendJSON appends the event as one JSON object without a line break, and returns the
// extended buffer.
func (e *Event) AppendJSON(b []byte) []byte {
	b = append(b, `{"timestamp":"`...)
	b = appendTime(b, e.Time)
	b = append(b, `","hostname":`...)
	b = appendString(b, e.Hostname)
	b = append(b, `,"event_type":`...)
	b = appendString(b, string(e.Type))
	switch e.Type {
	case TaskCompleted, TaskException, TaskTimedOut, TaskExited:
		b = e.appendTask(b)
	case FatalException, NonFatalException:
		b = append(b, `,"exception":`...)
		b = appendString(b, e.Exception)
		b = append(b, `,"stack_trace":`...)
		b = appendString(b, e.StackTrace)
		b = e.appendMessage(b)
	}
	if e.RunID != "" {
		b = append(b, `,"run_id":`...)
		b = appendString(b, e.RunID)
	}
	for _, f := range e.Extra {
		b = append(b, ',')
		b = appendString(b, f.Name)
		b = append(b, ':')
		b = appendValue(b, f.Value)
	}
	return append(b, '}')
}

// NewMalformedEvent returns the event that reports a malformed message.
func NewMalformedEvent(message string, reason error, hostname string, now time.Time) Event {
	return Event{
		Time: now, Hostname: hostname, Type: NonFatalException,
		Exception: reason.Error(), StackTrace: ErrorTrace(reason), Message: message,
	}
}

// ErrorTrace returns a text for the field stack_trace of an event. If a panic caused err, the text
// is the stack of the panic. Otherwise it is the chain of wrapped errors, outermost first.
func ErrorTrace(err error) string {
	var p *PanicError
	if errors.As(err, &p) {
		return string(p.Stack)
	}
	text := ""
	for ; err != nil; err = errors.Unwrap(err) {
		text += fmt.Sprintf("%T: %v\n", err, err)
	}
	return text
}

// appendMessage appends the field with the malformed message, if there is one. A message that is
// not valid UTF-8 is encoded in base64.
func (e *Event) appendMessage(b []byte) []byte {
	switch {
	case e.Message == "":
		return b
	case utf8.ValidString(e.Message):
		return appendString(append(b, `,"message":`...), e.Message)
	}
	b = append(b, `,"message_base64":"`...)
	b = base64.StdEncoding.AppendEncode(b, []byte(e.Message))
	return append(b, '"')
}

func (e *Event) appendTask(b []byte) []byte {
	b = append(b, `,"task_id":`...)
	b = appendString(b, e.TaskID)
	b = append(b, `,"elapsed_time":`...)
	b = appendSeconds(b, e.Outcome.Elapsed)
	if e.Type == TaskExited {
		b = append(b, `,"exit_code":`...)
		b = strconv.AppendInt(b, int64(e.Outcome.ExitCode), 10)
	}
	b = append(b, `,"retry":`...)
	b = strconv.AppendBool(b, e.Retry)
	if e.Rerun {
		b = append(b, `,"rerun":true`...)
	}
	switch e.Type {
	case TaskCompleted:
		if e.Outcome.RawResult != nil {
			b = append(b, `,"result_base64":"`...)
			b = base64.StdEncoding.AppendEncode(b, e.Outcome.RawResult)
			b = append(b, '"')
		} else {
			b = append(b, `,"result":`...)
			b = appendValue(b, e.Outcome.Result)
		}
	case TaskException:
		b = append(b, `,"exception":`...)
		b = appendString(b, e.Outcome.Exception)
	}
	b = append(b, `,"attempt":`...)
	b = strconv.AppendInt(b, int64(e.Attempt), 10)
	b = append(b, `,"slot":`...)
	b = strconv.AppendInt(b, int64(e.Outcome.Slot), 10)
	if e.Outcome.StderrLine != "" && e.Type != TaskCompleted && e.Type != TaskException {
		b = append(b, `,"stderr_line":`...)
		b = appendString(b, e.Outcome.StderrLine)
	}
	if e.NotRetried != "" {
		b = append(b, `,"retry_denied":`...)
		b = appendString(b, e.NotRetried)
	}
	if u := e.Outcome.Usage; u != nil {
		b = append(b, `,"usage":{"cpu_seconds":`...)
		b = appendSeconds(b, u.CPU)
		b = append(b, `,"peak_memory_bytes":`...)
		b = strconv.AppendInt(b, u.PeakMemory, 10)
		b = append(b, '}')
	}
	return b
}

// appendSeconds appends d in seconds, rounded to microseconds.
func appendSeconds(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, d.Round(time.Microsecond).Seconds(), 'f', -1, 64)
}

// appendString appends s as a JSON string. It replaces invalid UTF-8 by U+FFFD. If s contains an
// encoded surrogate, appendString writes it as a \u escape.
func appendString(b []byte, s string) []byte { return rawjson.AppendQuote(b, s) }

// appendValue appends v as a JSON value on one line. An empty v becomes null. Invalid JSON becomes
// a string, because the event would otherwise be invalid JSON too.
func appendValue(b []byte, v json.RawMessage) []byte {
	if len(v) == 0 {
		return append(b, "null"...)
	}
	c, ok := rawjson.Compact(v)
	if !ok {
		return appendString(b, string(v))
	}
	return append(b, c...)
}
