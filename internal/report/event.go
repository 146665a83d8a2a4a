package report

import (
	"bytes"
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/rawjson"
)

// unknown is the value of a number that an event does not contain.
const unknown = -1

// An event is the part of an event that a report uses. Its byte slices refer to the memory of the line.
type event struct {
	journal.Event
	isTask bool
	// The texts of the JSON strings, with their quotation marks; nil if missing.
	eventType, host, runID, exception, stderrLine, kind, action jsontext.Value
	time, deadline                                              int64 // microseconds since 1970, or unknown
	elapsed                                                     int64 // microseconds, or unknown
	slot                                                        int64 // or unknown
	memory                                                      int64 // bytes, or unknown
	cpu                                                         float64
	exitCode                                                    int
	retryDenied                                                 bool
}

// A decoder decodes events. It is not safe for concurrent use.
type decoder struct {
	buf   bytes.Buffer
	dec   jsontext.Decoder
	event event // reused, because an event is large
}

// decode decodes a line of an event log. It returns an error if the line is not an event. A field with an
// unexpected type counts as missing. The event is valid until the next call.
func (d *decoder) decode(line []byte) (*event, error) {
	e := &d.event
	*e = event{time: unknown, deadline: unknown, elapsed: unknown, slot: unknown, memory: unknown, cpu: unknown}
	var err error
	if e.Event, e.isTask, err = journal.Parse(line); err != nil {
		return e, err
	}
	d.buf = *bytes.NewBuffer(line)
	d.dec.Reset(&d.buf, rawjson.Options())
	if _, err := d.dec.ReadToken(); err != nil { // the brace
		return e, nil
	}
	for d.dec.PeekKind() == '"' {
		name, err := d.dec.ReadValue()
		if err != nil {
			return e, nil
		}
		f := fieldOf(name)
		value, err := d.dec.ReadValue()
		if err != nil {
			return e, nil // journal.Parse has accepted the line, so it counts
		}
		e.set(f, value)
	}
	return e, nil
}

// field is a field of an event.
type field uint8

const (
	otherField field = iota
	timestampField
	hostnameField
	typeField
	runIDField
	exceptionField
	stderrField
	kindField
	actionField
	deadlineField
	elapsedField
	slotField
	exitCodeField
	attemptField
	deniedField
	usageField
)

// fieldOf returns the field with the given name, in quotation marks.
func fieldOf(name []byte) field {
	switch string(name) { // does not allocate, unlike a map of functions
	case `"timestamp"`:
		return timestampField
	case `"hostname"`:
		return hostnameField
	case `"event_type"`:
		return typeField
	case `"run_id"`:
		return runIDField
	case `"exception"`:
		return exceptionField
	case `"stderr_line"`:
		return stderrField
	case `"elapsed_time"`:
		return elapsedField
	case `"slot"`:
		return slotField
	case `"exit_code"`:
		return exitCodeField
	case `"attempt"`:
		return attemptField
	case `"usage"`:
		return usageField
	}
	return rareFieldOf(name)
}

func rareFieldOf(name []byte) field {
	switch string(name) {
	case `"kind"`:
		return kindField
	case `"action"`:
		return actionField
	case `"deadline"`:
		return deadlineField
	case `"retry_denied"`:
		return deniedField
	}
	return otherField
}

// set sets a field. A value of an unexpected type is ignored.
func (e *event) set(f field, v jsontext.Value) {
	switch f {
	case otherField:
	case timestampField:
		e.time = parseTime(v)
	case deadlineField:
		e.deadline = parseTime(v)
	case elapsedField:
		e.elapsed = parseElapsed(v)
	case slotField, exitCodeField, attemptField:
		if n, ok := number(v); ok {
			e.setNumber(f, n)
		}
	case deniedField:
		e.retryDenied = true
	case usageField:
		e.setUsage(v)
	default:
		if v.Kind() == '"' {
			*e.text(f) = v
		}
	}
}

func (e *event) setNumber(f field, n float64) {
	switch {
	case f == slotField && n >= 0 && n < maxSlots:
		e.slot = int64(n)
	case f == exitCodeField && math.Abs(n) < 1<<31:
		e.exitCode = int(n)
	case f == attemptField && n >= 1 && n < 1<<31: // journal.Parse omits it if it takes its fast path
		e.Attempt = int(n)
	}
}

// text returns the text of a field.
func (e *event) text(f field) *jsontext.Value {
	switch f {
	case hostnameField:
		return &e.host
	case typeField:
		return &e.eventType
	case runIDField:
		return &e.runID
	case exceptionField:
		return &e.exception
	case stderrField:
		return &e.stderrLine
	case kindField:
		return &e.kind
	default:
		return &e.action
	}
}

// setUsage sets the fields of usage, which is a small object.
func (e *event) setUsage(v jsontext.Value) {
	if v.Kind() != '{' {
		return
	}
	if n, ok := number(member(v, `"cpu_seconds":`)); ok && n >= 0 && n < maxSeconds {
		e.cpu = n
	}
	if n, ok := number(member(v, `"peak_memory_bytes":`)); ok && n >= 0 && n < 1<<60 {
		e.memory = int64(n)
	}
}

// member returns the number that follows name in an object. It searches for the text, because the object
// contains only numbers.
func member(object jsontext.Value, name string) jsontext.Value {
	_, rest, ok := bytes.Cut(object, []byte(name))
	if !ok {
		return nil
	}
	rest = bytes.TrimLeft(rest, " \t")
	if end := bytes.IndexAny(rest, ",} \t"); end >= 0 {
		rest = rest[:end]
	}
	return jsontext.Value(rest)
}

func number(v jsontext.Value) (float64, bool) {
	if len(v) == 0 || v[0] != '-' && (v[0] < '0' || v[0] > '9') {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(v), 64)
	return n, err == nil && !math.IsInf(n, 0) && !math.IsNaN(n)
}

// maxSeconds is the largest plausible number of seconds of a task, about 30 years. Larger numbers count as
// missing.
const maxSeconds = 1e9

func parseElapsed(v jsontext.Value) int64 {
	if n, ok := number(v); ok && n >= 0 && n < maxSeconds {
		return int64(n * 1e6)
	}
	return unknown
}

// parseTime parses a JSON string with a time in ISO 8601. Without a zone, the time is in UTC. The result is
// in microseconds since 1970. Times before 1970 are unknown.
func parseTime(v jsontext.Value) int64 {
	if len(v) < 2 || v[0] != '"' {
		return unknown
	}
	text := v[1 : len(v)-1]
	if t, ok := parseDigits(text); ok {
		return t
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", time.DateTime} {
		if t, err := time.Parse(layout, string(text)); err == nil && t.Year() >= 1970 && t.Year() < 10000 {
			return t.UnixMicro()
		}
	}
	return unknown
}

// parseDigits parses the format that ctworker writes: 2026-11-23T08:48:06.495375.
func parseDigits(b []byte) (int64, bool) {
	const format = "0000-00-00T00:00:00.000000"
	if len(b) != len(format) {
		return 0, false
	}
	var n [7]int
	field := 0
	for i := range len(b) {
		if format[i] != '0' {
			if b[i] != format[i] {
				return 0, false
			}
			field++
			continue
		}
		if b[i] < '0' || b[i] > '9' {
			return 0, false
		}
		n[field] = n[field]*10 + int(b[i]-'0')
	}
	if n[0] < 1970 || n[1] < 1 || n[1] > 12 || n[2] < 1 || n[2] > 31 || n[3] > 23 || n[4] > 59 || n[5] > 60 {
		return 0, false
	}
	return time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], n[6]*1000, time.UTC).UnixMicro(), true
}

// textOf returns the text of a JSON string, or "".
func textOf(v jsontext.Value) string {
	if len(v) < 2 {
		return ""
	}
	return rawjson.Unquote(v)
}
