package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// taskLine is a parsed task message of the task protocol. Its fields refer to the memory of
// the line.
type taskLine struct {
	quoted  []byte // the ID as a JSON string
	id      []byte
	attempt int
	data    []byte
}

// errNotATask is returned for a line that is not a task and must be ignored.
var errNotATask = errors.New("no task")

// parseTask parses a line. A line in the exact format that ctworker writes is parsed
// without encoding/json.
func parseTask(line []byte) (taskLine, error) {
	if t, ok := parsePlainTask(line); ok {
		return t, nil
	}
	var msg struct {
		TaskID  *rawjson.String `json:"task_id"`
		Attempt *int            `json:"attempt"`
		Data    json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(line, &msg); err != nil {
		return taskLine{}, fmt.Errorf("malformed line from ctworker: %w", err)
	}
	if msg.TaskID == nil {
		return taskLine{}, errNotATask
	}
	t := taskLine{quoted: rawjson.AppendQuote(nil, *msg.TaskID), id: []byte(*msg.TaskID), attempt: 1, data: msg.Data}
	if msg.Attempt != nil {
		t.attempt = *msg.Attempt
	}
	if len(t.data) == 0 {
		t.data = []byte("null")
	}
	return t, nil
}

// parsePlainTask parses {"task_id":"ID","attempt":N,"data":VALUE} if the line has exactly
// this format and ID contains no escapes. The line is known to be valid JSON, so it only
// checks where VALUE ends.
func parsePlainTask(line []byte) (t taskLine, ok bool) {
	const head, attempt, data = `{"task_id":`, `,"attempt":`, `,"data":`
	if len(line) < len(head)+2 || string(line[:len(head)]) != head || line[len(head)] != '"' {
		return t, false
	}
	rest := line[len(head)+1:]
	end := 0
	for end < len(rest) && rest[end] != '"' {
		if c := rest[end]; c < ' ' || c > '~' || c == '\\' {
			return t, false
		}
		end++
	}
	if end == len(rest) {
		return t, false
	}
	t.id, t.quoted, rest = rest[:end], line[len(head):len(head)+end+2], rest[end+1:]
	rest, ok = bytes.CutPrefix(rest, []byte(attempt))
	if !ok {
		return t, false
	}
	digits := 0
	for digits < len(rest) && digits < 9 && rest[digits] >= '0' && rest[digits] <= '9' {
		t.attempt = t.attempt*10 + int(rest[digits]-'0')
		digits++
	}
	if digits == 0 {
		return t, false
	}
	rest, ok = bytes.CutPrefix(rest[digits:], []byte(data))
	if !ok || len(rest) < 2 || rest[len(rest)-1] != '}' {
		return t, false
	}
	t.data = rest[:len(rest)-1]
	return t, isOneValue(t.data)
}

// isOneValue reports whether b, which is a prefix of valid JSON, consists of exactly one
// value.
func isOneValue(b []byte) bool {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth <= 0 && i < len(b)-1 {
				return false
			}
		case ',':
			if depth == 0 {
				return false
			}
		case '"':
			for i++; ; i++ {
				next := bytes.IndexByte(b[i:], '"')
				if next < 0 {
					return false
				}
				i += next
				slashes := 0
				for b[i-1-slashes] == '\\' { // the opening quote ends the loop
					slashes++
				}
				if slashes%2 == 0 {
					break
				}
			}
		}
	}
	return depth == 0
}

// appendReply appends the reply to a task. quoted is its ID as a JSON string.
func appendReply(b, quoted []byte, out outcome, maxResult int64) []byte {
	b = append(b, `{"task_id":`...)
	b = append(b, quoted...)
	if out.exception != "" {
		b = append(b, `,"exception":`...)
		b = append(b, exceptionJSON(out.exception, maxResult)...)
		if out.permanent {
			b = append(b, `,"retry":false`...)
		}
		return append(b, "}\n"...)
	}
	b = append(b, `,"retry":`...)
	b = strconv.AppendBool(b, out.retry)
	b = append(b, `,"result":`...)
	b = append(b, out.result...)
	return append(b, "}\n"...)
}

// appendReturned appends the reply to a task that the engine has revoked.
func appendReturned(b, quoted []byte) []byte {
	b = append(b, `{"task_id":`...)
	b = append(b, quoted...)
	return append(b, `,"returned":true}`+"\n"...)
}

// exceptionJSON returns text as a JSON string, truncated if it would exceed the maximum
// length of a line.
func exceptionJSON(text string, maxResult int64) []byte {
	b := rawjson.AppendQuote(nil, text)
	if int64(len(b))-maxText/2 > maxResult {
		b = rawjson.AppendQuote(b[:0], utf8cut.Start(text, maxText/16)+" … (truncated)")
	}
	return b
}
