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

// A reply is one line of a process: that it is ready, or what came of a task.
type reply struct {
	ready    *readyLine
	id       string
	retry    bool
	never    bool // not to be retried, whatever the options say
	returned bool // it was not started
	failed   bool
	result   []byte // one JSON value, or nothing
	text     string // of the exception
	warning  string // each text is logged once per run
}

type readyLine struct {
	Version int    `json:"version"`
	Ahead   bool   `json:"ahead"`
	SDK     string `json:"sdk"`
	Ring    bool   `json:"ring"` // it claims from the ring
}

// A replyLine is a line of a process as it is encoded.
type replyLine struct {
	Ready     *readyLine      `json:"ready"`
	TaskID    *rawjson.String `json:"task_id"`
	Retry     *bool           `json:"retry"`
	Result    jsontext.Value  `json:"result"`
	Exception *rawjson.String `json:"exception"`
	Returned  bool            `json:"returned"`
	Warning   string          `json:"warning"`
}

// parseReply reads a line. expected is the id of the task at hand; a line that is
// just what the SDKs write for it is read without a parser.
func parseReply(line []byte, expected string) (reply, error) {
	if r, ok := plainReply(line, expected); ok {
		return r, nil
	}
	if !utf8.Valid(line) {
		return reply{}, errors.New("it is not UTF-8")
	}
	var say replyLine
	if err := json.Unmarshal(line, &say, rawjson.Options()); err != nil {
		return reply{}, errors.New("it is not a reply: " + objectFault(line, &say))
	}
	if say.Ready != nil {
		return reply{ready: say.Ready}, nil
	}
	if say.TaskID == nil {
		return reply{}, errors.New(`it has neither "task_id" nor "ready"`)
	}
	r := reply{id: string(*say.TaskID), returned: say.Returned, result: say.Result, warning: say.Warning}
	if say.Retry != nil {
		r.retry = *say.Retry
	}
	if say.Exception != nil {
		r.failed, r.text = true, string(*say.Exception)
		r.never, r.retry = say.Retry != nil && !*say.Retry, false
	}
	return r, nil
}

// plainReply reads {"task_id":ID,"retry":false,"result":VALUE} where it is
// written in just this way.
func plainReply(line []byte, id string) (reply, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"task_id":"`))
	if !ok || len(rest) < len(id) || string(rest[:len(id)]) != id || !isPlain(id) {
		return reply{}, false
	}
	rest, ok = bytes.CutPrefix(rest[len(id):], []byte(`","retry":false,"result":`))
	if !ok || len(rest) < 2 || rest[len(rest)-1] != '}' {
		return reply{}, false
	}
	value := rest[:len(rest)-1]
	// An object that ends early and a second field would pass for a value: {},"x":{}.
	if !rawjson.IsValid(value) {
		return reply{}, false
	}
	return reply{id: id, result: bytes.Clone(value)}, true
}

// isPlain reports whether s is the same quoted: printable ASCII without what JSON
// escapes.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// report is the outcome that a reply tells of.
func (r reply) report(maxResult int64) TaskResult {
	switch {
	case r.failed:
		return TaskResult{Kind: Failed, Exception: r.text, Permanent: r.never}
	case int64(len(r.result)) > maxResult:
		return tooLarge(maxResult)
	case len(r.result) == 0:
		return TaskResult{Kind: Completed, RetryRequested: r.retry, Result: []byte("null")}
	}
	return TaskResult{Kind: Completed, RetryRequested: r.retry, Result: r.result}
}

func tooLarge(maxResult int64) TaskResult {
	return failed("the result is larger than %d bytes; raise --max-result-size, or write the result to a file and return the file's name", maxResult)
}

// appendTask appends a task as the protocol has it, on one line.
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
	// A line break can stand between two JSON tokens only, where a space will do.
	for i, c := range b[start:] {
		if c == '\n' || c == '\r' {
			b[start+i] = ' '
		}
	}
	return append(b, '}', '\n')
}

// hello is the first line to a process.
func hello(slotIndex int, maxResult int64, worker []byte) []byte {
	if len(worker) == 0 {
		worker = []byte("{}")
	}
	return fmt.Appendf(nil, `{"hello":{"version":%d,"slot":%d,"max_result_size":%d,"worker":%s}}`+"\n",
		ProtocolVersion, slotIndex, maxResult, worker)
}
