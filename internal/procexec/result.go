package procexec

import (
	"bytes"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/taskproto"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// A Task is one task, as it is passed to a process.
type Task struct {
	ID string
	// Data is raw JSON.
	Data []byte
	// Attempt is the number of the attempt, from 1. Slot is the number of the slot, from 0.
	Attempt, Slot int
}

// A TaskResult is the result of the execution of a task.
type TaskResult struct {
	Kind outcome.Kind
	// RetryRequested, Result and RawResult can be set only if Kind is Completed. Result is one JSON
	// value. If the result is not valid UTF-8, RawResult is set instead of Result.
	RetryRequested bool
	Result         []byte
	RawResult      []byte
	// Exception is the text of the exception. It is set if Kind is Exception.
	Exception string
	// Permanent means that, according to the process, another attempt would also fail. It can be
	// set if Kind is Exception.
	Permanent bool
	// ExitCode is set if Kind is Exited; see Exit.Code.
	ExitCode int
	// StderrLine is the last line that the process wrote to its standard error, without surrounding
	// white space, and cut to maxStderrLine bytes. Only a Command sets it.
	StderrLine string
	// Slot is the number of the slot that ran the task. Only a Pool sets it.
	Slot int
	// Elapsed is the time from the start of the process until it was reaped. In a Pool whose
	// processes run several tasks, it is the time from the start of the task until its reply.
	Elapsed time.Duration
	// CPU and PeakMemory are the resources that the process used; see Exit.
	CPU        time.Duration
	PeakMemory int64
}

// exTempFail is the exit code by which a command requests a retry: EX_TEMPFAIL in sysexits(3).
const exTempFail = 75

// resultObject is the object that a command may write to the descriptor CTWORKER_RESULT_FD.
type resultObject struct {
	Retry     *bool           `json:"retry"`
	Result    jsontext.Value  `json:"result"`
	Exception *rawjson.String `json:"exception"`
}

// commandResult returns the result of a task whose process exited on its own.
func commandResult(exit Exit, stdout, resultFD *pipeReader) TaskResult {
	if exit.Code != 0 && exit.Code != exTempFail {
		return TaskResult{Kind: outcome.Exited, ExitCode: exit.Code}
	}
	r := TaskResult{Kind: outcome.Completed, RetryRequested: exit.Code == exTempFail}
	if len(resultFD.buf) > 0 {
		var object resultObject
		if resultFD.truncated {
			return failed("the task wrote more than %d bytes to the descriptor CTWORKER_RESULT_FD: raise --max-result-size, or write the result to a file and return its name", resultFD.limit)
		}
		if err := taskproto.Unmarshal(resultFD.buf, &object); err != nil || !utf8.Valid(resultFD.buf) || bytes.TrimSpace(resultFD.buf)[0] != '{' {
			return failed("the task wrote %s to the descriptor CTWORKER_RESULT_FD instead of one JSON object with \"retry\" and \"result\": %s",
				utf8cut.Quote(resultFD.buf), taskproto.ObjectFault(resultFD.buf, &object))
		}
		if object.Exception != nil {
			return failed("%s", string(*object.Exception))
		}
		if object.Retry != nil {
			r.RetryRequested = *object.Retry
		}
		if len(object.Result) > 0 {
			r.Result = object.Result
			return r
		}
	}
	if stdout.truncated {
		return failed("result exceeds %d bytes: the command wrote more to its standard output; raise --max-result-size, or write the result to a file and print its name", stdout.limit)
	}
	r.Result, r.RawResult = parseOutput(stdout.buf)
	return r
}

// failed returns a TaskResult of kind Exception.
func failed(format string, args ...any) TaskResult {
	return TaskResult{Kind: outcome.Exception, Exception: fmt.Sprintf(format, args...)}
}

// parseOutput converts the standard output of a command to a result. A JSON object is returned
// unchanged, without the white space around it. Other text becomes a JSON string, without the
// newline at its end. Output that is not UTF-8 is returned as raw bytes.
func parseOutput(out []byte) (value, raw []byte) {
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

// taskResult converts a reply to a TaskResult.
func taskResult(r *taskproto.Reply, maxResult int64) TaskResult {
	switch {
	case r.Failed:
		return TaskResult{Kind: outcome.Exception, Exception: r.Exception, Permanent: r.Permanent}
	case int64(len(r.Result)) > maxResult:
		return tooLarge(maxResult)
	case len(r.Result) == 0:
		return TaskResult{Kind: outcome.Completed, RetryRequested: r.Retry, Result: []byte("null")}
	}
	return TaskResult{Kind: outcome.Completed, RetryRequested: r.Retry, Result: r.Result}
}

func tooLarge(maxResult int64) TaskResult {
	return failed("result exceeds %d bytes: raise --max-result-size, or write the result to a file and return its name", maxResult)
}
