package config

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/ctworker/ctworker/internal/redact"
)

// Error is one error in the settings.
type Error struct {
	// Setting is what its user wrote: "--max-runtime",
	// "RMS_CLOUD_TASKS_MAX_RUNTIME" or "worker.yaml:3: max-runtime".
	Setting string
	// Value is the value as given.
	Value string
	// Reason says what is wrong with the value, then what would be right.
	Reason string

	// about is the setting meant, so that a rule does not call missing what
	// was misspelt. It is empty where that is not known.
	about string
	// valueless is true where there is no value to show, which is not the same
	// as an empty one.
	valueless bool
}

// String returns the fault as one line, whatever the parts of it hold.
func (f Error) String() string {
	line := f.Setting
	if !f.valueless {
		line += " " + strconv.Quote(redact.Text(f.Value))
	}
	return oneLine(line + ": " + f.Reason)
}

// Errors are all errors in the settings. An Errors that is returned as an error is never empty.
type Errors []Error

// Error returns one line a fault, without a newline at the end.
func (f Errors) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// oneLine makes a space of everything that could start another line or play
// tricks on a terminal. Names of flags, keys and files are anybody's text.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
