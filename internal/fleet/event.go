package fleet

import (
	"bytes"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/digest"
	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// Limits of texts in events, in bytes. They are larger than the texts of a genuine worker.
const (
	maxName   = 255
	maxReason = 200
)

// fields are the fields of an event that a State uses, in addition to those that package journal parses.
type fields struct {
	Timestamp  text      `json:"timestamp"`
	Hostname   text      `json:"hostname"`
	Type       text      `json:"event_type"`
	RunID      text      `json:"run_id"`
	InstanceID text      `json:"instance_id"`
	Zone       text      `json:"zone"`
	Kind       text      `json:"kind"`
	Action     text      `json:"action"`
	Deadline   text      `json:"deadline"`
	Exception  text      `json:"exception"`
	StderrLine text      `json:"stderr_line"`
	ExitCode   integer   `json:"exit_code"`
	LoadID     text      `json:"load_id"`
	TaskCount  integer   `json:"task_count"`
	Distinct   integer   `json:"distinct_task_count"`
	Worker     anyDigest `json:"worker"`
}

// A text is a JSON string. Any other JSON value becomes "", because one field of the wrong type must not
// make the others unusable.
type text string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err == nil && v.Kind() == '"' {
		*t = text(rawjson.Unquote(v))
	}
	return err
}

// An integer is a JSON integer. Any other JSON value becomes 0.
type integer int64

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (n *integer) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	var i int64
	if json.Unmarshal(v, &i) == nil {
		*n = integer(i)
	}
	return nil
}

// anyDigest is a digest. A value that is not a digest becomes nil.
type anyDigest struct{ *digest.Digest }

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (w *anyDigest) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	var parsed digest.Digest
	if v.Kind() == '{' && json.Unmarshal(v, &parsed, rawjson.Options()) == nil {
		w.Digest = &parsed
	}
	return nil
}

// parseFields parses a line that journal.Parse has accepted.
func parseFields(line []byte) (f fields) {
	_ = json.Unmarshal(line, &f, rawjson.Options()) // the line is a JSON object, and every field accepts every value
	return f
}

// timeLayout is the format of the field timestamp.
const timeLayout = "2006-01-02T15:04:05.999999"

// parseTime parses a timestamp in UTC, with or without a zone. It returns the zero time for an invalid one.
func parseTime(s string) time.Time {
	if len(s) > 40 {
		return time.Time{}
	}
	if t, err := time.Parse(timeLayout, s); err == nil {
		return t
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// timeOf returns the timestamp of an event without parsing the event. It returns the zero time if the
// timestamp is not the first field, or is invalid.
func timeOf(line []byte) time.Time {
	rest, ok := bytes.CutPrefix(line, []byte(`{"timestamp":"`))
	end := bytes.IndexByte(rest[:min(len(rest), 41)], '"')
	if !ok || end < 0 {
		return time.Time{}
	}
	return parseTime(string(rest[:end]))
}

// clip cuts a text to n bytes.
func clip(s text, n int) string {
	if len(s) <= n {
		return string(s)
	}
	return utf8cut.Start(string(s), n) + "…"
}

// isFailure reports whether a kind is the kind of a failed task.
func isFailure(k journal.Kind) bool {
	return k == journal.Exception || k == journal.TimedOut || k == journal.Exited
}
