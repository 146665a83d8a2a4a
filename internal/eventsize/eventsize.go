// Package fit has events told in a queue whose messages have a limit.
//
//	Event ─▶ Limit.Messages ─┬▶ one message, whole
//	                         ├▶ one message, its longest text cut and marked as such
//	                         └▶ several, which have a message that is no task in parts
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

// A Limit is how large a queue's messages may be.
type Encoder struct {
	// Queue is its name, for errors.
	Queue string
	// Bytes is how large a message may be.
	MaxBytes int
	// Text is an event's JSON as the queue takes it.
	Render func(*pipeline.Event) string
}

// A Message is what a queue is sent.
type Message struct {
	Body string
	// Key is the same for the same event: of the events of a task there is one of a type
	// for each attempt.
	Key string
}

// Messages are an event as messages, each of as many bytes at most as the queue takes:
// one, but where the event tells of a message that is no task and is larger. That is
// the only copy there is, and so it is told in parts.
//
// Of any other event that is larger the longest text is cut: result_truncated (or
// exception_truncated, stack_trace_truncated) is true then, and result_bytes its size.
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

// parts are the events that together tell of a message that is no task.
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

// cut is the event with as many of its texts cut as it takes, the longest first. A
// task_id comes last; but an event that cannot be told would end every worker that
// meets it.
func (l Encoder) truncate(e pipeline.Event) (string, error) {
	e.Extra = e.Extra[:len(e.Extra):len(e.Extra)]
	size := 0
	for _, t := range texts(&e) {
		e.Extra = append(e.Extra,
			pipeline.Field{Name: t.name + "_truncated", Value: json.RawMessage("true")},
			pipeline.Field{Name: t.name + "_bytes", Value: json.RawMessage(strconv.Itoa(t.size))})
		// What a text takes as JSON is not known before: half as much, until it fits.
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
	return "", fmt.Errorf("an event takes %d bytes with all texts cut, and the queue %q takes %d", size, l.Queue, l.MaxBytes)
}

// A truncatable is a text of an event.
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
	case e.Type == pipeline.TaskCompleted && o.RawResult != nil: // base64, which cannot be cut anywhere
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
