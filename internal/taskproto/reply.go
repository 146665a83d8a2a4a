package taskproto

import (
	"bytes"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// A Reply is one line from a worker process: its Ready message, or the result of a task.
type Reply struct {
	// Ready is the Ready message; the other fields are then zero.
	Ready *Ready
	ID    string // of the task
	// Retry reports that the task requests another attempt.
	Retry bool
	// Failed reports that the task raised an exception, whose text is Exception. Permanent reports
	// that the process expects another attempt to fail as well.
	Failed, Permanent bool
	Exception         string
	// Returned reports that the process did not start the task, because ctworker took it back.
	Returned bool
	Result   []byte // one JSON value, or empty
	// Warning is a text for the log.
	Warning string
}

// replyLine is the JSON encoding of a reply.
type replyLine struct {
	Ready     *Ready          `json:"ready"`
	TaskID    *rawjson.String `json:"task_id"`
	Retry     *bool           `json:"retry"`
	Result    jsontext.Value  `json:"result"`
	Exception *rawjson.String `json:"exception"`
	Returned  bool            `json:"returned"`
	Warning   string          `json:"warning"`
}

// ParseReply parses a line. expected is the id of the running task. parseFastReply parses the
// line without a JSON parser if it has exactly the form that the SDKs write for that task.
func ParseReply(line []byte, expected string) (Reply, error) {
	if r, ok := parseFastReply(line, expected); ok {
		return r, nil
	}
	if !utf8.Valid(line) {
		return Reply{}, errors.New("it is not UTF-8")
	}
	var object replyLine
	if err := json.Unmarshal(line, &object, rawjson.Options()); err != nil {
		return Reply{}, errors.New("it is not a reply: " + ObjectFault(line, &object))
	}
	if object.Ready != nil {
		return Reply{Ready: object.Ready}, nil
	}
	if object.TaskID == nil {
		return Reply{}, errors.New(`it has neither "task_id" nor "ready"`)
	}
	r := Reply{ID: string(*object.TaskID), Returned: object.Returned, Result: object.Result, Warning: object.Warning}
	if object.Retry != nil {
		r.Retry = *object.Retry
	}
	if object.Exception != nil {
		r.Failed, r.Exception = true, string(*object.Exception)
		r.Permanent, r.Retry = object.Retry != nil && !*object.Retry, false
	}
	return r, nil
}

// ParseTruncatedReply returns the reply that starts with start, the part of a line that Next returned
// with ErrLineTooLong.
func ParseTruncatedReply(start []byte, expected string) (Reply, error) {
	if !bytes.HasPrefix(start, replyStart) {
		return Reply{}, errors.New("the line is too long, and is not a JSON object")
	}
	return Reply{ID: expected}, nil
}

// parseFastReply parses {"task_id":ID,"retry":false,"result":VALUE}, written exactly like this.
func parseFastReply(line []byte, id string) (Reply, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"task_id":"`))
	if !ok || len(rest) < len(id) || string(rest[:len(id)]) != id || !needsNoEscape(id) {
		return Reply{}, false
	}
	rest, ok = bytes.CutPrefix(rest[len(id):], []byte(`","retry":false,"result":`))
	if !ok || len(rest) < 2 || rest[len(rest)-1] != '}' {
		return Reply{}, false
	}
	value := rest[:len(rest)-1]
	// value may also be a value and a further field, such as {},"x":{}.
	if !rawjson.IsValid(value) {
		return Reply{}, false
	}
	return Reply{ID: id, Result: bytes.Clone(value)}, true
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

// AppendResult appends the reply to a task that returned a result, one JSON value. quoted is the
// task's ID as a JSON string.
func AppendResult(b, quoted []byte, retry bool, result []byte) []byte {
	b = append(b, `{"task_id":`...)
	b = append(b, quoted...)
	b = append(b, `,"retry":`...)
	b = strconv.AppendBool(b, retry)
	b = append(b, `,"result":`...)
	b = append(b, result...)
	return append(b, "}\n"...)
}

// AppendException appends the reply to a task that raised an exception. exception is its text as a
// JSON string. If permanent is true, another attempt would fail as well.
func AppendException(b, quoted, exception []byte, permanent bool) []byte {
	b = append(b, `{"task_id":`...)
	b = append(b, quoted...)
	b = append(b, `,"exception":`...)
	b = append(b, exception...)
	if permanent {
		b = append(b, `,"retry":false`...)
	}
	return append(b, "}\n"...)
}

// AppendReturned appends the reply to a task that was not claimed.
func AppendReturned(b, quoted []byte) []byte {
	b = append(b, `{"task_id":`...)
	b = append(b, quoted...)
	return append(b, `,"returned":true}`+"\n"...)
}
