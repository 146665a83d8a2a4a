package sqs

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ctworker/ctworker/aws"
	"github.com/ctworker/ctworker/pipeline"
)

// messages are an event as messages, each of as many bytes at most as the queue takes:
// one, but where the event tells of a message that is no task and is larger. That is
// the only copy there is, and so it is told in parts.
//
// Of any other event that is larger the longest text is cut: result_truncated (or
// exception_truncated, stack_trace_truncated) is true then, and result_bytes its size.
func (s *Sink) messages(e pipeline.Event) ([]aws.Message, error) {
	if body := text(&e); len(body) <= s.limit {
		return []aws.Message{s.message(&e, body, "")}, nil
	}
	if e.Message != "" {
		return s.parts(e)
	}
	body, err := s.cut(e)
	if err != nil {
		return nil, err
	}
	return []aws.Message{s.message(&e, body, "")}, nil
}

// message is a message with what a queue that delivers exactly once goes by: of the
// events of a task, one of a type for each attempt.
func (s *Sink) message(e *pipeline.Event, body, part string) aws.Message {
	group, key := e.TaskID, fmt.Sprintf("%s %d %s", e.TaskID, e.Attempt, e.Type)
	if e.TaskID == "" {
		group = e.Hostname
		key = fmt.Sprintf("%s %s %s %s", e.Hostname, e.Type, e.Time.UTC().Format(time.RFC3339Nano), e.Message)
	}
	return aws.Message{Body: body, Group: group, Key: key + part}
}

// parts are the events that together tell of a message that is no task.
func (s *Sink) parts(e pipeline.Event) ([]aws.Message, error) {
	whole, extra := e.Message, e.Extra[:len(e.Extra):len(e.Extra)]
	var pieces []string
	numbered := func(piece string, part, parts int) (pipeline.Event, string) {
		p := e
		p.Message = piece
		p.Extra = append(extra,
			pipeline.Field{Name: "message_part", Value: json.RawMessage(strconv.Itoa(part))},
			pipeline.Field{Name: "message_parts", Value: json.RawMessage(strconv.Itoa(parts))},
			pipeline.Field{Name: "message_bytes", Value: json.RawMessage(strconv.Itoa(len(whole)))})
		return p, text(&p)
	}
	for rest := whole; rest != ""; {
		keep := min(len(rest), s.limit)
		for ; ; keep = boundary(rest, keep/2) {
			if keep == 0 {
				return nil, fmt.Errorf("a message of %d bytes that is no task cannot be told of in the queue %q, which takes %d bytes", len(whole), s.queue, s.limit)
			}
			if _, body := numbered(rest[:keep], len(whole), len(whole)); len(body) <= s.limit {
				break
			}
		}
		pieces, rest = append(pieces, rest[:keep]), rest[keep:]
	}
	var all []aws.Message
	for i, piece := range pieces {
		p, body := numbered(piece, i+1, len(pieces))
		all = append(all, s.message(&p, body, fmt.Sprintf(" part %d", i+1)))
	}
	return all, nil
}

// boundary is the end of the last whole character of the first n bytes.
func boundary(text string, n int) int {
	for n > 0 && n < len(text) && text[n]&0xc0 == 0x80 {
		n--
	}
	return n
}

// cut is the event with as many of its texts cut as it takes, the longest first. A
// task_id comes last; but an event that cannot be told would end every worker that
// meets it.
func (s *Sink) cut(e pipeline.Event) (string, error) {
	e.Extra = e.Extra[:len(e.Extra):len(e.Extra)]
	size := 0
	for _, t := range texts(&e) {
		e.Extra = append(e.Extra,
			pipeline.Field{Name: t.name + "_truncated", Value: json.RawMessage("true")},
			pipeline.Field{Name: t.name + "_bytes", Value: json.RawMessage(strconv.Itoa(t.size))})
		// What a text takes as JSON is not known before: half as much, until it fits.
		for keep := min(len(t.whole), s.limit); ; keep /= 2 {
			t.set(strings.ToValidUTF8(t.whole[:keep], ""))
			body := text(&e)
			if len(body) <= s.limit {
				return body, nil
			}
			if keep == 0 {
				size = len(body)
				break
			}
		}
	}
	return "", fmt.Errorf("an event takes %d bytes with all texts cut, and the queue %q takes %d", size, s.queue, s.limit)
}

// A cuttable is a text of an event.
type cuttable struct {
	name, whole string
	size        int
	set         func(string)
}

func texts(e *pipeline.Event) []cuttable {
	o := &e.Outcome
	plain := func(name string, at *string) cuttable {
		return cuttable{name, *at, len(*at), func(cut string) { *at = cut }}
	}
	switch {
	case e.Type == pipeline.TaskCompleted && o.ResultBytes != nil: // base64, which cannot be cut anywhere
		none := func(string) { o.Result, o.ResultBytes = json.RawMessage(`""`), nil }
		return []cuttable{{"result", "", len(o.ResultBytes), none}, plain("task_id", &e.TaskID)}
	case e.Type == pipeline.TaskCompleted:
		set := func(cut string) { o.Result, _ = json.Marshal(cut) }
		return []cuttable{{"result", string(o.Result), len(o.Result), set}, plain("task_id", &e.TaskID)}
	case e.TaskID != "":
		return []cuttable{plain("exception", &o.Exception), plain("task_id", &e.TaskID)}
	case len(e.StackTrace) > len(e.Exception):
		return []cuttable{plain("stack_trace", &e.StackTrace), plain("exception", &e.Exception)}
	}
	return []cuttable{plain("exception", &e.Exception), plain("stack_trace", &e.StackTrace)}
}

// text is the event's JSON as SQS takes it.
func text(e *pipeline.Event) string { return aws.Text(e.AppendJSON(nil)) }
