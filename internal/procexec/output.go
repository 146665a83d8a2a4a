package procexec

import (
	"bytes"
	"strings"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

// A Stream is one of the two streams to which a process prints.
type Stream uint8

// The streams. Their values are their descriptors.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// TaskOutput receives what the processes of one attempt of a task print.
type TaskOutput interface {
	// Line receives a line. Lines of the two streams may be passed concurrently. Line may block; the
	// task then blocks when its pipe is full.
	Line(line OutputLine)
	// End is called once, when the attempt has ended. Line is not called after it.
	End()
}

// An OutputLine is a line that a process has printed.
type OutputLine struct {
	Stream Stream
	// Text is the line without its line ending. It is valid only until Line returns. A line of more
	// than 64 KiB is passed in several pieces, and Continued is true for all pieces except the first.
	Text      []byte
	Continued bool
	// Uncertain reports that the line may belong to a neighboring task. This is possible only for a
	// process that was sent tasks in advance, because it had printed nothing for a long time.
	Uncertain bool
}

// maxStderrLine is the maximum length of TaskResult.StderrLine in bytes.
const maxStderrLine = 500

// lastLine is the last line of standard error that is not empty, cut to maxStderrLine bytes.
type lastLine []byte

// add replaces the line, unless line is empty, the rest of a long line, or only a hint.
func (l *lastLine) add(line []byte, continued bool) {
	if text := bytes.TrimSpace(line); len(text) > 0 && !continued && (len(*l) == 0 || !isHint(text)) {
		*l = append((*l)[:0], utf8cut.Start(text, maxStderrLine)...)
	}
}

// text returns the line as valid UTF-8.
func (l lastLine) text() string { return strings.ToValidUTF8(string(l), "\ufffd") }

// isHint reports whether a line is the one that GNU programs write after the error message for an invalid
// command line, such as "Try 'sleep --help' for more information."
func isHint(line []byte) bool {
	return bytes.HasPrefix(line, []byte("Try '")) && bytes.HasSuffix(line, []byte(" --help' for more information."))
}
