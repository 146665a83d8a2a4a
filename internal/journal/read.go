package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// Damage describes the lines of a log that are not events.
type Damage struct {
	// Lines are the numbers of the first damaged lines, from 1. Count is the number of all damaged lines.
	Lines []int64
	Count int64
	// Torn reports that the last line of the log is incomplete. This line is ignored, and not counted.
	// A last line that lacks only its line break is complete: the next write to the log adds the line
	// break.
	Torn bool
	// Events is the number of lines that are events.
	Events int64
}

// NotALog reports whether the file has lines, but none of them is an event.
func (d *Damage) NotALog() bool { return d.Events == 0 && d.Count > 0 }

// maxDamagedLines is the maximum length of Damage.Lines.
const maxDamagedLines = 10

// Add adds the damaged line with the given number. complete reports whether it ends with a line break.
func (d *Damage) Add(number int64, complete bool) {
	if !complete {
		d.Torn = true
		return
	}
	d.Count++
	if len(d.Lines) < maxDamagedLines {
		d.Lines = append(d.Lines, number)
	}
}

// ReadFile adds the events in the log at path to j. It returns an error if the file cannot be read. If
// mayBeMissing is true, a missing file is not an error.
func (j *Journal) ReadFile(ctx context.Context, path string, mayBeMissing bool) (Damage, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // do not wait for the writer of a FIFO
	if err != nil {
		if mayBeMissing && errors.Is(err, os.ErrNotExist) {
			return Damage{}, nil
		}
		return Damage{}, fmt.Errorf("event log: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file, so a run cannot continue from it: use an event log in a regular file", path)
	}
	if err != nil {
		return Damage{}, fmt.Errorf("event log: %w", err)
	}
	damage, err := j.Read(ctx, f)
	if err != nil {
		err = fmt.Errorf("event log: read %s: %w", path, err)
	}
	return damage, err
}

// Read adds the events in a log to j. If ctx is done before the end of the log, Read returns ctx's error.
func (j *Journal) Read(ctx context.Context, log io.Reader) (Damage, error) {
	return Events(ctx, log, j.Add)
}

// Events calls f for each event in a log that reports a task. If ctx is done before the end of the log,
// Events returns ctx's error. f must not retain the ID of the task.
func Events(ctx context.Context, log io.Reader, f func(Event)) (damage Damage, err error) {
	err = Lines(ctx, log, func(number int64, line []byte, complete bool) {
		e, ok, err := Parse(line)
		switch {
		case err != nil:
			damage.Add(number, complete)
			return
		case ok:
			f(e)
		}
		damage.Events++
	})
	return damage, err
}

// Lines calls f for each line of log that is not empty. line does not include the line break. complete is
// false for a last line without a line break. f must not retain line.
func Lines(ctx context.Context, log io.Reader, f func(number int64, line []byte, complete bool)) error {
	r := bufio.NewReaderSize(log, 1<<20)
	var long []byte // the beginning of a line that is longer than the buffer
	for number := int64(1); ; {
		part, err := r.ReadSlice('\n')
		switch {
		case err == nil:
			line := part
			if len(long) > 0 {
				long = append(long, part...)
				line = long
			}
			if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
				f(number, line, true)
			}
			number++
			long = long[:0]
			if number%(1<<14) == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
		case errors.Is(err, bufio.ErrBufferFull):
			long = append(long, part...)
		case errors.Is(err, io.EOF):
			if long = append(long, part...); len(long) > 0 {
				f(number, long, false)
			}
			return nil
		default:
			return err
		}
	}
}

var errNotEvent = errors.New("not an event")

// Parse parses one line of an event log, which must not be empty. ok is false for an event that does not
// report a task. Parse returns an error if the line is not a JSON object. The result may refer to the
// memory of line.
func Parse(line []byte) (e Event, ok bool, err error) {
	if e, ok := parseFast(line); ok {
		return e, true, nil
	}
	var m struct {
		Type    string         `json:"event_type"`
		TaskID  jsontext.Value `json:"task_id"`
		Retry   bool           `json:"retry"`
		Attempt int            `json:"attempt"`
		Rerun   bool           `json:"rerun"`
	}
	if line[0] != '{' {
		return Event{}, false, errNotEvent
	}
	if err := json.Unmarshal(line, &m, rawjson.Options()); err != nil {
		return Event{}, false, errNotEvent
	}
	kind := kindOf([]byte(m.Type))
	if m.Type == "" {
		return Event{}, false, errNotEvent
	}
	if kind == None || m.TaskID.Kind() != '"' {
		return Event{}, false, nil
	}
	return Event{TaskID: []byte(rawjson.Unquote(m.TaskID)), Kind: kind, Retry: m.Retry, Attempt: m.Attempt, Rerun: m.Rerun}, true, nil
}

// kindOf returns the Kind of an event type, or None if it is not the type of a task event.
func kindOf(eventType []byte) Kind {
	switch string(eventType) {
	case "task_completed":
		return Completed
	case "task_exception":
		return Exception
	case "task_timed_out":
		return TimedOut
	case "task_exited":
		return Exited
	}
	return None
}

// parseFast parses an event of a completed task that is not retried, in the form that this program
// writes. For every other line, it returns false.
func parseFast(line []byte) (e Event, ok bool) {
	rest := line
	for _, name := range []string{`{"timestamp":"`, `,"hostname":"`} {
		if rest, ok = bytes.CutPrefix(rest, []byte(name)); !ok {
			return e, false
		}
		if _, rest, ok = cutString(rest); !ok {
			return e, false
		}
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"event_type":"task_completed","task_id":"`)); !ok {
		return e, false
	}
	if e.TaskID, rest, ok = cutString(rest); !ok {
		return e, false
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"elapsed_time":`)); !ok {
		return e, false
	}
	if rest, ok = bytes.CutPrefix(bytes.TrimLeft(rest, "0123456789."), []byte(`,"retry":false,"result":`)); !ok {
		return e, false
	}
	if !isRestOfObject(rest) {
		return e, false
	}
	e.Kind = Completed
	return e, true
}

// cutString returns the text up to the closing quotation mark. It returns false if the text has an
// escape sequence.
func cutString(b []byte) (text, rest []byte, ok bool) {
	end := bytes.IndexByte(b, '"')
	if end < 0 || bytes.IndexByte(b[:end], '\\') >= 0 {
		return nil, nil, false
	}
	return b[:end], b[end+1:], true
}

// isRestOfObject reports whether b, the rest of a JSON object, ends with the brace that closes the object.
// It does not check the syntax, because it must only detect lines that were cut off, and they always lack
// this brace.
func isRestOfObject(b []byte) bool {
	depth := 1
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i == len(b)-1
			}
		}
	}
	return false
}
