package sqs

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ctworker/ctworker/pipeline"
)

// body is an event as a message, of as many bytes at most as the queue takes. The
// result, or the exception, of one that is larger is cut: result_truncated or
// exception_truncated is true then, and result_bytes or exception_bytes its size.
func (s *Sink) body(e pipeline.Event) (string, error) {
	body := text(&e)
	if len(body) <= s.limit {
		return body, nil
	}
	name, whole := "result", string(e.Outcome.Result)
	if e.Type != pipeline.TaskCompleted {
		name, whole = "exception", e.Outcome.Exception
	}
	if e.Outcome.ResultBytes != nil { // base64, which cannot be cut anywhere
		whole = ""
	}
	size := max(len(whole), len(e.Outcome.ResultBytes))
	e.Extra = append(e.Extra[:len(e.Extra):len(e.Extra)],
		pipeline.Field{Name: name + "_truncated", Value: json.RawMessage("true")},
		pipeline.Field{Name: name + "_bytes", Value: json.RawMessage(strconv.Itoa(size))})
	// What a text takes as JSON is not known before: half as much, until it fits.
	for keep := min(len(whole), s.limit); ; keep /= 2 {
		cut := strings.ToValidUTF8(whole[:keep], "")
		if name == "result" {
			quoted, _ := json.Marshal(cut)
			e.Outcome.Result, e.Outcome.ResultBytes = quoted, nil
		} else {
			e.Outcome.Exception = cut
		}
		if body = text(&e); len(body) <= s.limit {
			return body, nil
		}
		if keep == 0 {
			return "", fmt.Errorf("the event of task %.100q takes %d bytes without its %s, and the queue %q takes %d: the task_id is too long", e.TaskID, len(body), name, s.queue, s.limit)
		}
	}
}

// text is the event's JSON, in the characters that SQS takes: XML 1.0 knows no
// U+FFFE and U+FFFF, and JSON no character that cannot be escaped. What is below a
// space JSON has escaped already.
func text(e *pipeline.Event) string {
	b := e.AppendJSON(nil)
	if !utf8.Valid(b) { // it cannot be
		b = []byte(strings.ToValidUTF8(string(b), "\ufffd"))
	}
	return escape.Replace(string(b))
}

var escape = strings.NewReplacer("\ufffe", `\ufffe`, "\uffff", `\uffff`)
