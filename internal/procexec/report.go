package procexec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// A Task is what a process is given to do.
type Task struct {
	ID string
	// Data is raw JSON.
	Data []byte
	// Attempt counts from 1, Slot from 0.
	Attempt, Slot int
}

// End says how a task's execution ended.
type ExitKind uint8

// The ends. The zero End is invalid.
const (
	// Finished: the task returned a result.
	Completed ExitKind = iota + 1
	// Failed: the task raised, or its result is of no use; see Report.Exception.
	Failed
	// TimedOut: it was killed for running too long.
	TimedOut
	// Exited: its process ended without a result; see Report.ExitCode.
	Exited
	// Ended: it was ended because Ends.Term or Ends.Kill said so.
	Interrupted
	// Dropped: it was killed because Ends.Drop said so.
	LeaseLost
)

// A Report is what came of a task.
type TaskResult struct {
	Kind ExitKind
	// Retry, and Result (one JSON value) or ResultBytes (where it is no UTF-8),
	// are set for Finished.
	RetryRequested bool
	Result         []byte
	ResultBytes    []byte
	// Exception is set for Failed.
	Exception string
	// NoRetry is set for Failed where another attempt would fail in the same
	// way, as the process knows.
	Permanent bool
	// ExitCode is set for Exited: minus the signal's number after a signal.
	ExitCode int
	// Slot is where a Pool ran it.
	Slot int
	// Elapsed runs from before the process was started until it was reaped.
	Elapsed time.Duration
	// CPU and PeakMemory are the process's; see Exit.
	CPU        time.Duration
	PeakMemory int64
}

// exTempFail is the exit code with which a command asks for a retry
// (EX_TEMPFAIL of sysexits(3)).
const exTempFail = 75

// A resultObject is what a command may write to the descriptor CTWORKER_RESULT_FD.
type resultObject struct {
	Retry     *bool           `json:"retry"`
	Result    json.RawMessage `json:"result"`
	Exception *rawjson.String `json:"exception"`
}

// reportOf makes a Report of a command that ended by itself.
func reportOf(exit Exit, stdout, told *pipeReader) TaskResult {
	if exit.Code != 0 && exit.Code != exTempFail {
		return TaskResult{Kind: Exited, ExitCode: exit.Code}
	}
	r := TaskResult{Kind: Completed, RetryRequested: exit.Code == exTempFail}
	if len(told.buf) > 0 {
		var say resultObject
		if told.over {
			return failed("the task wrote more than %d bytes to the descriptor CTWORKER_RESULT_FD; --max-result-size allows no more", told.limit)
		}
		if err := json.Unmarshal(told.buf, &say); err != nil || !utf8.Valid(told.buf) || bytes.TrimSpace(told.buf)[0] != '{' {
			return failed("the task wrote %s to the descriptor CTWORKER_RESULT_FD instead of one JSON object with \"retry\" and \"result\": %s",
				quoteStart(told.buf), objectFault(told.buf, &say))
		}
		if say.Exception != nil {
			return failed("%s", string(*say.Exception))
		}
		if say.Retry != nil {
			r.RetryRequested = *say.Retry
		}
		if len(say.Result) > 0 {
			r.Result = say.Result
			return r
		}
	}
	if stdout.over {
		return failed("the result is larger than %d bytes: the command wrote more than that to its standard output; raise --max-result-size, or write the result to a file and print the file's name", stdout.limit)
	}
	r.Result, r.ResultBytes = resultOf(stdout.buf)
	return r
}

func failed(format string, args ...any) TaskResult {
	return TaskResult{Kind: Failed, Exception: fmt.Sprintf(format, args...)}
}

// resultOf makes a result of what a command wrote: a JSON object as it is;
// other text as a string, without the newline that ends its last line; and what
// is no UTF-8 as bytes.
func resultOf(out []byte) (value, raw []byte) {
	if !utf8.Valid(out) {
		return nil, out
	}
	trimmed := bytes.TrimSpace(out)
	if len(trimmed) > 0 && trimmed[0] == '{' && rawjson.IsValid(trimmed) {
		return trimmed, nil
	}
	text, cut := bytes.CutSuffix(out, []byte("\n"))
	if cut {
		text = bytes.TrimSuffix(text, []byte("\r"))
	}
	return rawjson.AppendQuote(nil, text), nil
}

// quoteStart quotes the first bytes of b for an error message.
func quoteStart(b []byte) string {
	const most = 200
	if start := utf8cut.Start(b, most); len(start) < len(b) {
		return fmt.Sprintf("%q and %d more bytes", start, len(b)-len(start))
	}
	return fmt.Sprintf("%q", b)
}
