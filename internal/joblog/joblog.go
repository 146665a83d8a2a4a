package joblog

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/pipeline"
)

// Header is the first line of a job log, without its line break.
const Header = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"

// A Formatter formats the events of one run. The zero value is ready for use. It is not safe for
// concurrent use.
type Formatter struct {
	seq int64
}

// Format appends the line of a task event to b, without its line break. It returns false for an event
// that does not report a task.
func (f *Formatter) Format(b []byte, e *pipeline.Event) ([]byte, bool) {
	exit, signal, ok := status(e)
	if !ok {
		return b, false
	}
	f.seq++
	start := e.Time.Add(-e.Outcome.Elapsed).UnixMilli()
	b = strconv.AppendInt(b, f.seq, 10)
	b = fmt.Appendf(b, "\t:\t%d.%03d\t%10.3f\t0\t%d\t%d\t%d\t", start/1000, start%1000,
		e.Outcome.Elapsed.Truncate(time.Millisecond).Seconds(), received(e), exit, signal)
	return append(b, escapes.Replace(e.TaskID)...), true
}

const (
	exitException = 1  // exit code of an interpreter after an unhandled exception
	exitRetry     = 75 // EX_TEMPFAIL, with which a command requests a retry
	exitTimedOut  = -1
)

// status returns the columns Exitval and Signal. ok is false if e does not report a task.
func status(e *pipeline.Event) (exit, signal int, ok bool) {
	switch e.Type {
	case pipeline.TaskCompleted:
		if e.Outcome.RetryRequested {
			return exitRetry, 0, true
		}
		return 0, 0, true
	case pipeline.TaskException:
		return exitException, 0, true
	case pipeline.TaskTimedOut:
		return exitTimedOut, int(syscall.SIGTERM), true
	case pipeline.TaskExited:
		if code := e.Outcome.ExitCode; code < 0 {
			return 0, -code, true
		}
		return e.Outcome.ExitCode, 0, true
	}
	return 0, 0, false
}

// received returns the size of the result in bytes. For raw bytes or a string, this is the size of the
// content. For any other result, it is the size of the JSON.
func received(e *pipeline.Event) int {
	switch result := e.Outcome.Result; {
	case e.Type != pipeline.TaskCompleted:
		return 0
	case e.Outcome.RawResult != nil:
		return len(e.Outcome.RawResult)
	case len(result) > 1 && result[0] == '"':
		return len(rawjson.Unquote(result))
	default:
		return len(result)
	}
}

// escapes converts an ID to a single column on a single line. The conversion is reversible.
var escapes = strings.NewReplacer(escapePairs()...)

func escapePairs() []string {
	pairs := []string{`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x7f", `\x7f`}
	for c := range byte(' ') {
		if c != '\t' && c != '\n' && c != '\r' {
			pairs = append(pairs, string(rune(c)), fmt.Sprintf(`\x%02x`, c))
		}
	}
	return pairs
}
