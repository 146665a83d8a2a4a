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
	// Value is the value as the user wrote it.
	Value string
	// Reason describes the fault and then the valid values.
	Reason string

	// about is the setting that the user probably meant, or "" if that is unknown. It prevents a
	// second fault: a misspelled setting is not also reported as missing.
	about string
	// valueless is true if String must not print Value because there is none. An empty value that
	// the user wrote is printed.
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

// Errors contains all errors in the settings. An Errors that a function returns as an error is not
// empty.
type Errors []Error

// Error returns one line per fault, without a newline at the end.
func (f Errors) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// oneLine replaces line breaks and terminal control characters by spaces, because the names of
// flags, keys and files can contain any character.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
