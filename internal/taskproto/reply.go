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
	// Ready is the Ready message, or nil if the line is a result. If Ready is set, the other fields
	// are zero.
	Ready *Ready
	// ID is the id of the task. It may refer to the memory of the line.
	ID []byte
	// Retry reports that the task requests another attempt.
	Retry bool
	// Failed reports that the task raised an exception. Exception is the text of the exception.
	// Permanent reports that the process expects another attempt to fail as well.
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

// ParseReply parses a line. Most lines have exactly the form in which the SDKs write a result;
// parseFastReply parses these lines faster than a JSON parser.
func ParseReply(line []byte) (Reply, error) {
	if r, ok := parseFastReply(line); ok {
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
	r := Reply{ID: []byte(*object.TaskID), Returned: object.Returned, Result: object.Result, Warning: object.Warning}
	if object.Retry != nil {
		r.Retry = *object.Retry
	}
	if object.Exception != nil {
		r.Failed, r.Exception = true, string(*object.Exception)
		r.Permanent, r.Retry = object.Retry != nil && !*object.Retry, false
	}
	return r, nil
}

// CheckTruncatedReply checks a line that is too long. start is the part of the line that Next
// returned with ErrLineTooLong. CheckTruncatedReply returns an error if start is not the start of a
// reply.
func CheckTruncatedReply(start []byte) error {
	if !bytes.HasPrefix(start, replyStart) {
		return errors.New("the line is too long, and does not start like a reply, which is a JSON object")
	}
	return nil
}

// parseFastReply parses {"task_id":"ID","retry":false,"result":VALUE}, written exactly like this and
// without escapes in ID.
func parseFastReply(line []byte) (Reply, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"task_id":"`))
	if !ok {
		return Reply{}, false
	}
	end := plainLength(rest)
	id := rest[:end]
	rest, ok = bytes.CutPrefix(rest[end:], []byte(`","retry":false,"result":`))
	if !ok || len(rest) < 2 || rest[len(rest)-1] != '}' {
		return Reply{}, false
	}
	value := rest[:len(rest)-1]
	// If the line has a further field, value is not valid JSON but, for example, {},"x":{}.
	if !rawjson.IsValid(value) {
		return Reply{}, false
	}
	return Reply{ID: id, Result: bytes.Clone(value)}, true
}

// plainLength returns the number of leading bytes of b that are printable ASCII characters, and that
// JSON does not escape in a string.
func plainLength(b []byte) int {
	for i, c := range b {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return i
		}
	}
	return len(b)
}

// AppendResult appends the reply to a task that returned a result. quoted is the task's ID as a
// JSON string. result is one JSON value.
func AppendResult(b, quoted []byte, retry bool, result []byte) []byte {
	b = append(b, `{"task_id":`...)
	b = append(b, quoted...)
	b = append(b, `,"retry":`...)
	b = strconv.AppendBool(b, retry)
	b = append(b, `,"result":`...)
	b = append(b, result...)
	return append(b, "}\n"...)
}

// AppendException appends the reply to a task that raised an exception. exception is the text of
// the exception as a JSON string. If permanent is true, another attempt would fail as well.
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

// AppendReturned appends the reply to a task that the process returns because it could not claim
// the task.
func AppendReturned(b, quoted []byte) []byte {
	b = append(b, `{"task_id":`...)
	b = append(b, quoted...)
	return append(b, `,"returned":true}`+"\n"...)
}
