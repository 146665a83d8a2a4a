package procexec

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// ProtocolVersion is the version of the task protocol; see docs/protocol.md.
const ProtocolVersion = 1

// reply is one line from a process: that the process is ready, or the result of a task.
type reply struct {
	ready     *readyLine
	id        string
	retry     bool
	permanent bool // never retry, whatever the retry options are
	returned  bool // the task was revoked and has not been started
	failed    bool
	result    []byte // one JSON value, or empty
	exception string // text of the exception, if failed
	warning   string // logged once per run
}

type readyLine struct {
	Version int    `json:"version"`
	Ahead   bool   `json:"ahead"`
	SDK     string `json:"sdk"`
	Ring    bool   `json:"ring"` // the process uses the shared ring
}

// replyLine is the JSON encoding of a reply.
type replyLine struct {
	Ready     *readyLine      `json:"ready"`
	TaskID    *rawjson.String `json:"task_id"`
	Retry     *bool           `json:"retry"`
	Result    jsontext.Value  `json:"result"`
	Exception *rawjson.String `json:"exception"`
	Returned  bool            `json:"returned"`
	Warning   string          `json:"warning"`
}

// parseReply parses a line. expected is the id of the running task. parseFastReply parses the
// line without a JSON parser if it has exactly the form that the SDKs write for that task.
func parseReply(line []byte, expected string) (reply, error) {
	if r, ok := parseFastReply(line, expected); ok {
		return r, nil
	}
	if !utf8.Valid(line) {
		return reply{}, errors.New("it is not UTF-8")
	}
	var object replyLine
	if err := json.Unmarshal(line, &object, rawjson.Options()); err != nil {
		return reply{}, errors.New("it is not a reply: " + objectFault(line, &object))
	}
	if object.Ready != nil {
		return reply{ready: object.Ready}, nil
	}
	if object.TaskID == nil {
		return reply{}, errors.New(`it has neither "task_id" nor "ready"`)
	}
	r := reply{id: string(*object.TaskID), returned: object.Returned, result: object.Result, warning: object.Warning}
	if object.Retry != nil {
		r.retry = *object.Retry
	}
	if object.Exception != nil {
		r.failed, r.exception = true, string(*object.Exception)
		r.permanent, r.retry = object.Retry != nil && !*object.Retry, false
	}
	return r, nil
}

// parseFastReply parses {"task_id":ID,"retry":false,"result":VALUE}, written exactly like this.
func parseFastReply(line []byte, id string) (reply, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"task_id":"`))
	if !ok || len(rest) < len(id) || string(rest[:len(id)]) != id || !needsNoEscape(id) {
		return reply{}, false
	}
	rest, ok = bytes.CutPrefix(rest[len(id):], []byte(`","retry":false,"result":`))
	if !ok || len(rest) < 2 || rest[len(rest)-1] != '}' {
		return reply{}, false
	}
	value := rest[:len(rest)-1]
	// value may also be a value and a further field, such as {},"x":{}.
	if !rawjson.IsValid(value) {
		return reply{}, false
	}
	return reply{id: id, result: bytes.Clone(value)}, true
}

// needsNoEscape reports whether s consists of printable ASCII characters that JSON does not
// escape.
func needsNoEscape(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// taskResult converts the reply to a TaskResult.
func (r reply) taskResult(maxResult int64) TaskResult {
	switch {
	case r.failed:
		return TaskResult{Kind: Failed, Exception: r.exception, Permanent: r.permanent}
	case int64(len(r.result)) > maxResult:
		return tooLarge(maxResult)
	case len(r.result) == 0:
		return TaskResult{Kind: Completed, RetryRequested: r.retry, Result: []byte("null")}
	}
	return TaskResult{Kind: Completed, RetryRequested: r.retry, Result: r.result}
}

func tooLarge(maxResult int64) TaskResult {
	return failed("result exceeds %d bytes: raise --max-result-size, or write the result to a file and return its name", maxResult)
}

// appendTask appends the line that sends a task to a process.
func appendTask(b []byte, task Task) []byte {
	b = append(b, `{"task_id":`...)
	b = rawjson.AppendQuote(b, task.ID)
	b = append(b, `,"attempt":`...)
	b = strconv.AppendInt(b, int64(task.Attempt), 10)
	b = append(b, `,"data":`...)
	if len(task.Data) == 0 {
		b = append(b, "null"...)
	}
	start := len(b)
	b = append(b, task.Data...)
	// Line breaks occur only between JSON tokens, where a space is equivalent.
	for i, c := range b[start:] {
		if c == '\n' || c == '\r' {
			b[start+i] = ' '
		}
	}
	return append(b, '}', '\n')
}

// hello returns the first line that is sent to a process.
func hello(slotIndex int, maxResult int64, worker []byte) []byte {
	if len(worker) == 0 {
		worker = []byte("{}")
	}
	return fmt.Appendf(nil, `{"hello":{"version":%d,"slot":%d,"max_result_size":%d,"worker":%s}}`+"\n",
		ProtocolVersion, slotIndex, maxResult, worker)
}
