package help

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/term"
)

const (
	defaultWidth = 80
	minWidth     = 30
	// maxWidth limits the length of lines on a very wide terminal.
	maxWidth = 120
)

// Width returns the number of columns for text on f: those of the terminal, else the variable
// COLUMNS, else 80. It is at least 30 and at most 120.
func Width(f *os.File) int {
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		if width, err = strconv.Atoi(os.Getenv("COLUMNS")); err != nil || width <= 0 {
			width = defaultWidth
		}
	}
	return min(max(width, minWidth), maxWidth)
}

// Write writes text to f, which is standard output.
func Write(f *os.File, text string) error {
	if _, err := f.WriteString(text); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}
