package outcome

import (
	"fmt"
	"strings"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

// maxReason is the length to which Reason cuts its result, in bytes.
const maxReason = 200

// Reason returns one line about why a task failed. The line contains the first line of the exception's
// message, or the exit code and the last line of standard error.
func Reason(kind Kind, exception string, exitCode int, stderrLine string) string {
	text := ""
	switch kind {
	case Exception:
		text = message(strings.TrimSpace(exception))
	case Exited:
		if text = fmt.Sprintf("exit code %d", exitCode); exitCode < 0 {
			text = fmt.Sprintf("killed by signal %d", -exitCode)
		}
	case TimedOut:
		text = "exceeded the maximum runtime"
	}
	if stderrLine != "" {
		text += ": " + stderrLine
	}
	if len(text) > maxReason {
		text = utf8cut.Start(text, maxReason) + "…"
	}
	return text
}

// message returns the first line of an exception. If the exception is a stack trace of Python, it returns
// the first line of the message after the trace.
func message(exception string) string {
	lines := strings.Split(exception, "\n")
	first := 0
	if strings.HasPrefix(exception, "Traceback (most recent call last)") {
		for i, line := range lines[:len(lines)-1] {
			if strings.HasPrefix(line, " ") { // a frame
				first = i + 1
			}
		}
	}
	return strings.TrimSpace(lines[first])
}
