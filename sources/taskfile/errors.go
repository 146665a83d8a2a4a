package taskfile

import (
	"errors"
	"fmt"
	"strings"
)

// An Error says what is wrong with a task file, where, and what would be right.
type Error struct {
	// File is the path as it was given to Open, or "standard input".
	File string
	// Entry is the number of the broken entry, from 1, counting skipped ones;
	// 0 where the fault is the whole file's, such as a missing one.
	Entry int64
	// Line is where the fault is, from 1, in the decompressed text: the line of
	// the fault itself where it has one, else the line on which the entry
	// starts; 0 where the fault is the whole file's.
	Line int64
	// Reason is the fault in words.
	Reason string
	// Err is the cause, where another package reported one.
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

// The causes that this package adds of its own; they reach the user as an
// Error's reason.
var (
	errTooLarge = errors.New("entry is too large")
	errNotUTF8  = errors.New("invalid UTF-8")
	errClosed   = errors.New("source is closed")
)

// What an entry lacks is told in the same words whatever the format.
const (
	wantObject   = `an entry is an object with "task_id" and "data"`
	reasonNoID   = "task_id is missing: " + wantObject
	reasonNoData = `data is missing: ` + wantObject + ` (data may be null)`
	reasonEmpty  = "task_id is empty: every task needs a name"
	reasonUTF8   = "invalid UTF-8: a task file is UTF-8 text"
)

// at makes an Error that lacks only what scan.explain adds: file and entry.
func at(line int64, err error, format string, args ...any) *Error {
	return &Error{Line: line, Err: err, Reason: fmt.Sprintf(format, args...)}
}

func tooLarge(line, limit int64) *Error {
	return at(line, errTooLarge, "the entry takes more than %s, which is the limit for one task", size(limit))
}

// size writes a number of bytes as people say it.
func size(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}
