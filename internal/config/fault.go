package config

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/ctworker/ctworker/internal/redact"
)

// Error is one error in the settings.
type Error struct {
	// Setting is the setting as the user wrote it: "--max-runtime",
	// "RMS_CLOUD_TASKS_MAX_RUNTIME" or "worker.yaml:3: max-runtime".
	Setting string
	// Value is the value as given.
	Value string
	// Reason describes the fault and then the valid values.
	Reason string

	// about is the setting that the user probably meant, or "" if that is unknown. A setting that
	// was misspelled is not also reported as missing.
	about string
	// valueless is true if there is no value to show. An empty value is shown.
	valueless bool
}

// String returns the fault as one line, even if its fields contain line breaks.
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

// oneLine replaces line breaks and terminal control characters by spaces. Names of flags, keys and
// files can contain any text.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
