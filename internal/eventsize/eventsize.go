// Package eventsize encodes events into messages of limited size. An event that is too large is
// truncated or split.
//
//	Event ─▶ Encoder.Encode ─┬▶ one message with the complete event
//	                         ├▶ one message whose longest text is truncated and marked as truncated
//	                         └▶ several messages with the parts of a malformed message
package eventsize

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/utf8cut"
	"github.com/ctworker/ctworker/pipeline"
)

// An Encoder encodes events for one queue. All fields are required.
type Encoder struct {
	// Queue is the name of the queue. It is used in errors.
	Queue string
	// MaxBytes is the maximum size of a message in bytes.
	MaxBytes int
	// Render returns the JSON of an event in the form that the queue accepts.
	Render func(*pipeline.Event) string
}

// A Message is the body of a queue message and its deduplication key.
type Message struct {
	Body string
	// Key identifies the event. The key of a task event contains the task_id, the attempt and the
	// event type. A task has at most one event per type and attempt, so its events have different
	// keys.
	Key string
}

// Encode encodes an event into messages of at most MaxBytes bytes each. It returns one message,
// except for a malformed message that is too large. The text of such a message is split into
// several parts, because the event contains the only copy of the text.
//
// If any other event is too large, its longest text, which is usually the result, is truncated. The
// field result_truncated is then true, and result_bytes is the original size. If another text is
// truncated, the names of these fields start with exception, stack_trace or task_id instead.
func (l Encoder) Encode(e pipeline.Event) ([]Message, error) {
	if body := l.Render(&e); len(body) <= l.MaxBytes {
		return []Message{{body, key(&e)}}, nil
	}
	if e.Message != "" {
		return l.split(e)
	}
	body, err := l.truncate(e)
	if err != nil {
		return nil, err
	}
	return []Message{{body, key(&e)}}, nil
}

func key(e *pipeline.Event) string {
	if e.TaskID == "" {
		return fmt.Sprintf("%s %s %s %s", e.Hostname, e.Type, e.Time.UTC().Format(time.RFC3339Nano), e.Message)
	}
	return fmt.Sprintf("%s %d %s", e.TaskID, e.Attempt, e.Type)
}

// split encodes an event that reports a malformed message into several messages, each with a part
// of the malformed message.
func (l Encoder) split(e pipeline.Event) ([]Message, error) {
	message, extra := e.Message, e.Extra[:len(e.Extra):len(e.Extra)]
	var pieces []string
	renderPart := func(piece string, part, parts int) string {
		p := e
		p.Message = piece
		p.Extra = append(extra,
			pipeline.Field{Name: "message_part", Value: json.RawMessage(strconv.Itoa(part))},
			pipeline.Field{Name: "message_parts", Value: json.RawMessage(strconv.Itoa(parts))},
			pipeline.Field{Name: "message_bytes", Value: json.RawMessage(strconv.Itoa(len(message)))})
		return l.Render(&p)
	}
	for remaining := message; remaining != ""; {
		keep := utf8cut.Before(remaining, l.MaxBytes)
		for ; ; keep = utf8cut.Before(remaining, keep/2) {
			if keep == 0 {
				return nil, fmt.Errorf("malformed message of %d bytes does not fit in an event: queue %q accepts at most %d bytes", len(message), l.Queue, l.MaxBytes)
			}
			if body := renderPart(remaining[:keep], len(message), len(message)); len(body) <= l.MaxBytes {
				break
			}
		}
		pieces, remaining = append(pieces, remaining[:keep]), remaining[keep:]
	}
	var all []Message
	for i, piece := range pieces {
		body := renderPart(piece, i+1, len(pieces))
		all = append(all, Message{body, fmt.Sprintf("%s part %d", key(&e), i+1)})
	}
	return all, nil
}

// truncate encodes an event, and truncates as many of its texts as necessary, in the order in which
// the function texts returns them. The task_id of a task event is truncated last. It cannot be
// exempt: if its event were too large to send, every worker that gets the task would fail.
func (l Encoder) truncate(e pipeline.Event) (string, error) {
	e.Extra = e.Extra[:len(e.Extra):len(e.Extra)]
	size := 0
	for _, t := range texts(&e) {
		e.Extra = append(e.Extra,
			pipeline.Field{Name: t.name + "_truncated", Value: json.RawMessage("true")},
			pipeline.Field{Name: t.name + "_bytes", Value: json.RawMessage(strconv.Itoa(t.size))})
		// Halve the text until the event fits. Escape sequences make a text longer in JSON, so its size in
		// JSON is not known before.
		for keep := min(len(t.whole), l.MaxBytes); ; keep /= 2 {
			t.set(utf8cut.Start(t.whole, keep))
			body := l.Render(&e)
			if len(body) <= l.MaxBytes {
				return body, nil
			}
			if keep == 0 {
				size = len(body)
				break
			}
		}
	}
	return "", fmt.Errorf("event of %d bytes is too large even with all texts truncated: queue %q accepts at most %d bytes", size, l.Queue, l.MaxBytes)
}

// A truncatable is a text of an event that can be truncated.
type truncatable struct {
	name, whole string
	size        int
	set         func(string)
}

func texts(e *pipeline.Event) []truncatable {
	o := &e.Outcome
	plain := func(name string, at *string) truncatable {
		return truncatable{name, *at, len(*at), func(cut string) { *at = cut }}
	}
	switch {
	case e.Type == pipeline.TaskCompleted && o.RawResult != nil: // encoded in base64, which cannot be truncated at an arbitrary byte
		none := func(string) { o.Result, o.RawResult = json.RawMessage(`""`), nil }
		return []truncatable{{"result", "", len(o.RawResult), none}, plain("task_id", &e.TaskID)}
	case e.Type == pipeline.TaskCompleted:
		set := func(cut string) { o.Result = rawjson.AppendQuote(nil, cut) }
		return []truncatable{{"result", string(o.Result), len(o.Result), set}, plain("task_id", &e.TaskID)}
	case e.TaskID != "":
		return []truncatable{plain("exception", &o.Exception), plain("task_id", &e.TaskID)}
	case len(e.StackTrace) > len(e.Exception):
		return []truncatable{plain("stack_trace", &e.StackTrace), plain("exception", &e.Exception)}
	}
	return []truncatable{plain("exception", &e.Exception), plain("stack_trace", &e.StackTrace)}
}
