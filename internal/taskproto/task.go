package taskproto

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// A TaskLine is a parsed task message. Its fields refer to the memory of the line.
type TaskLine struct {
	Quoted  []byte // the ID as a JSON string
	ID      []byte
	Attempt int    // from 1
	Data    []byte // one JSON value
}

// ErrNotATask is returned for a line that is not a task and must be ignored.
var ErrNotATask = errors.New("the line is not a task")

// ParseTask parses a line. A line in the exact format that ctworker writes is parsed without a JSON
// parser.
func ParseTask(line []byte) (TaskLine, error) {
	if t, ok := parsePlainTask(line); ok {
		return t, nil
	}
	var msg struct {
		TaskID  *rawjson.String `json:"task_id"`
		Attempt *int            `json:"attempt"`
		Data    jsontext.Value  `json:"data"`
	}
	if err := Unmarshal(line, &msg); err != nil {
		return TaskLine{}, fmt.Errorf("malformed line from ctworker: %w", err)
	}
	if msg.TaskID == nil {
		return TaskLine{}, ErrNotATask
	}
	t := TaskLine{Quoted: rawjson.AppendQuote(nil, *msg.TaskID), ID: []byte(*msg.TaskID), Attempt: 1, Data: msg.Data}
	if msg.Attempt != nil {
		t.Attempt = *msg.Attempt
	}
	if len(t.Data) == 0 {
		t.Data = []byte("null")
	}
	return t, nil
}

// parsePlainTask parses {"task_id":"ID","attempt":N,"data":VALUE} if the line has exactly this
// format and ID contains no escapes. ctworker sends only valid JSON, so parsePlainTask only checks
// where VALUE ends.
func parsePlainTask(line []byte) (t TaskLine, ok bool) { //nolint:gocyclo // one pass over the line, because every task takes this path
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
	t.ID, t.Quoted, rest = rest[:end], line[len(head):len(head)+end+2], rest[end+1:]
	rest, ok = bytes.CutPrefix(rest, []byte(attempt))
	if !ok {
		return t, false
	}
	digits := 0
	for digits < len(rest) && digits < 9 && rest[digits] >= '0' && rest[digits] <= '9' {
		t.Attempt = t.Attempt*10 + int(rest[digits]-'0')
		digits++
	}
	if digits == 0 {
		return t, false
	}
	rest, ok = bytes.CutPrefix(rest[digits:], []byte(data))
	if !ok || len(rest) < 2 || rest[len(rest)-1] != '}' {
		return t, false
	}
	t.Data = rest[:len(rest)-1]
	return t, isOneValue(t.Data)
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

// AppendTask appends the line of a task. data is one JSON value; nil means null.
func AppendTask(b []byte, id string, attempt int, data []byte) []byte {
	b = append(b, `{"task_id":`...)
	b = rawjson.AppendQuote(b, id)
	b = append(b, `,"attempt":`...)
	b = strconv.AppendInt(b, int64(attempt), 10)
	b = append(b, `,"data":`...)
	if len(data) == 0 {
		b = append(b, "null"...)
	}
	start := len(b)
	b = append(b, data...)
	// Line breaks occur only between JSON tokens, where a space is equivalent.
	for i, c := range b[start:] {
		if c == '\n' || c == '\r' {
			b[start+i] = ' '
		}
	}
	return append(b, '}', '\n')
}
