package outcome

import (
	"fmt"
	"strings"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

// maxReason is the length to which Reason cuts its result, in bytes.
const maxReason = 200

// Reason returns one line about why a task failed. The line contains the last line of the exception,
// which is the message in a stack trace of Python, or the exit code and the last line of standard error.
func Reason(kind Kind, exception string, exitCode int, stderrLine string) string {
	text := ""
	switch kind {
	case Exception:
		exception = strings.TrimSpace(exception)
		text = strings.TrimSpace(exception[strings.LastIndexByte(exception, '\n')+1:])
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
