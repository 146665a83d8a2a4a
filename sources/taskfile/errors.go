package taskfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ctworker/ctworker/internal/units"
)

// An Error describes what is wrong with a task file, where, and what to do.
type Error struct {
	// File is the path that was passed to Open, or "standard input".
	File string
	// Entry is the number of the invalid entry, from 1, including skipped entries. It is 0 if
	// the error concerns the whole file, for example if the file does not exist.
	Entry int64
	// Line is the line of the error in the decompressed text, from 1. If the exact line is unknown,
	// Line is the first line of the entry. If the error concerns the whole file, Line is 0.
	Line int64
	// Reason is the message without the position.
	Reason string
	// Err is the underlying error, or nil.
	Err error
}

// Error returns, for instance, "tasks.json: entry 3, line 17: task_id is missing".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	switch {
	case e.Entry > 0 && e.Line > 0:
		fmt.Fprintf(&b, ": entry %d, line %d", e.Entry, e.Line)
	case e.Entry > 0:
		fmt.Fprintf(&b, ": entry %d", e.Entry)
	case e.Line > 0:
		fmt.Fprintf(&b, ": line %d", e.Line)
	}
	b.WriteString(": ")
	b.WriteString(e.Reason)
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Internal errors. A user gets them as an Error with a Reason.
var (
	errTooLarge = errors.New("entry is too large")
	errNotUTF8  = errors.New("invalid UTF-8")
	errClosed   = errors.New("source is closed")
)

// Reasons that are the same for all formats.
const (
	wantObject   = `an entry is an object with "task_id" and "data"`
	reasonNoID   = "task_id is missing: " + wantObject
	reasonInList = "the file is an object with the list %q, not a list: a task file contains only the list itself, [{...}, {...}]"
	reasonNoData = `data is missing: ` + wantObject + ` (data may be null)`
	reasonEmpty  = "task_id is empty: every task needs a name"
	reasonUTF8   = "invalid UTF-8: a task file is UTF-8 text"
)

// at returns an Error without file and entry, which scan.locate adds.
func at(line int64, err error, format string, args ...any) *Error {
	return &Error{Line: line, Err: err, Reason: fmt.Sprintf(format, args...)}
}

func tooLarge(line, limit int64) *Error {
	return at(line, errTooLarge, "the entry takes more than %s, which is the limit for one task", units.Size(limit))
}
