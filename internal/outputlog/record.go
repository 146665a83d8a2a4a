package outputlog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// A Stream is the stream to which a line was printed.
type Stream string

// The streams.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// A Record is one line of an output log.
type Record struct {
	Stream Stream
	// TaskID is empty for output that a process printed while it ran no task.
	TaskID        string
	Attempt, Slot int
	// Uncertain reports that TaskID may be the ID of a neighboring task. This is possible only for a
	// process that has run many short tasks without printing anything.
	Uncertain bool
	Time      time.Time
	// Text is the line without its line ending. It can be any bytes.
	Text []byte
	// Continued reports that Text continues the line of the previous record of this stream, which was
	// too long for one record.
	Continued bool
	// OmittedLines and OmittedBytes are set in a record without Text. They count the lines of both
	// streams that the log omits at this point, because the attempt printed too much.
	OmittedLines, OmittedBytes int64
}

// prefix is the beginning of every line of an output log.
const prefix = `{"stream":"`

const timeFormat = "2006-01-02T15:04:05.000000"

// append appends the record as one line of JSON.
func (r *Record) append(b []byte) []byte {
	b = append(b, prefix...)
	b = append(b, r.Stream...)
	b = append(b, '"')
	if r.TaskID != "" {
		b = append(b, `,"task_id":`...)
		b = rawjson.AppendQuote(b, r.TaskID)
		b = append(b, `,"attempt":`...)
		b = strconv.AppendInt(b, int64(r.Attempt), 10)
		if r.Uncertain {
			b = append(b, `,"uncertain":true`...)
		}
	}
	b = append(b, `,"slot":`...)
	b = strconv.AppendInt(b, int64(r.Slot), 10)
	b = append(b, `,"timestamp":"`...)
	b = r.Time.UTC().AppendFormat(b, timeFormat)
	switch {
	case r.OmittedLines > 0:
		b = append(b, `","omitted_lines":`...)
		b = strconv.AppendInt(b, r.OmittedLines, 10)
		b = append(b, `,"omitted_bytes":`...)
		b = strconv.AppendInt(b, r.OmittedBytes, 10)
	case utf8.Valid(r.Text):
		b = append(b, `","text":`...)
		b = rawjson.AppendQuote(b, r.Text)
	default:
		b = append(b, `","text_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, r.Text)
		b = append(b, '"')
	}
	if r.Continued {
		b = append(b, `,"continued":true`...)
	}
	return append(b, "}\n"...)
}

// recordLine is the JSON encoding of a Record.
type recordLine struct {
	Stream       Stream          `json:"stream"`
	TaskID       rawjson.String  `json:"task_id"`
	Attempt      int             `json:"attempt"`
	Uncertain    bool            `json:"uncertain"`
	Slot         int             `json:"slot"`
	Timestamp    string          `json:"timestamp"`
	OmittedLines int64           `json:"omitted_lines"`
	OmittedBytes int64           `json:"omitted_bytes"`
	Text         *rawjson.String `json:"text"`
	Base64       []byte          `json:"text_base64"`
	Continued    bool            `json:"continued"`
}

// parse decodes a line of an output log.
func parse(line []byte) (Record, error) {
	var l recordLine
	if err := json.Unmarshal(line, &l, rawjson.Options()); err != nil {
		return Record{}, fmt.Errorf("is not a line of an output log: %w", err)
	}
	r := Record{
		Stream: l.Stream, TaskID: string(l.TaskID), Attempt: l.Attempt, Uncertain: l.Uncertain, Slot: l.Slot,
		OmittedLines: l.OmittedLines, OmittedBytes: l.OmittedBytes, Text: l.Base64, Continued: l.Continued,
	}
	if l.Text != nil {
		r.Text = []byte(*l.Text)
	}
	var err error
	if r.Time, err = time.Parse(timeFormat, l.Timestamp); err != nil || l.Stream != Stdout && l.Stream != Stderr {
		return Record{}, errors.New("is not a line of an output log: it has no stream or no timestamp")
	}
	return r, nil
}
