package worker

import (
	"bytes"
	"context"
	"regexp"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/outputlog"
	"github.com/ctworker/ctworker/internal/procexec"
)

// Terminal states which streams of this program are a terminal.
type Terminal struct{ Stdout, Stderr bool }

// openOutputLog opens the output log, if there is one.
func (w *Worker) openOutputLog(ctx context.Context) error {
	cfg := w.opts.Config
	if cfg.OutputLog == "" && cfg.OutputDirPerTask == "" {
		return nil
	}
	log, err := outputlog.Open(ctx, outputlog.Options{
		Path: cfg.OutputLog, Dir: cfg.OutputDirPerTask, MaxSize: cfg.MaxOutputSize,
		Log: w.opts.Log.With().Str("component", "output").Logger(),
	})
	if err != nil {
		return &ConfigError{err}
	}
	w.outputLog = log
	w.onClose(log.Close)
	return nil
}

// capturedStreams returns the streams of worker processes that are read line by line. Without an
// output log, these are the streams that go to the terminal of the log: lines of several processes,
// the log and the progress bar would otherwise be mixed.
func (w *Worker) capturedStreams() []procexec.Stream {
	terminal := w.opts.Terminal
	switch {
	case w.outputLog != nil:
		return []procexec.Stream{procexec.Stdout, procexec.Stderr}
	case terminal.Stderr && terminal.Stdout:
		return []procexec.Stream{procexec.Stdout, procexec.Stderr}
	case terminal.Stderr:
		return []procexec.Stream{procexec.Stderr}
	}
	return nil
}

// commandOutput returns the callbacks that receive what commands print. Their standard error is
// recorded or logged; at a terminal, both. Their standard output is their result, so it is only recorded.
func (w *Worker) commandOutput() (stderr func(procexec.Task, []byte, bool), output func(procexec.Task) procexec.TaskOutput) {
	if !w.opts.Terminal.Stderr && w.outputLog == nil {
		stderr = w.logStderr
	}
	if w.outputLog != nil || w.opts.Terminal.Stderr {
		output = func(task procexec.Task) procexec.TaskOutput {
			return &taskOutput{w: w, task: task, shownStderr: w.opts.Terminal.Stderr}
		}
	}
	return stderr, output
}

// poolOutput returns the receiver of what a worker process prints during a task. Task.ID is empty if
// the process runs no task.
func (w *Worker) poolOutput(task procexec.Task) procexec.TaskOutput {
	terminal := w.opts.Terminal
	return &taskOutput{w: w, task: task, shownStdout: terminal.Stdout && terminal.Stderr, shownStderr: terminal.Stderr}
}

// taskOutput receives what one attempt of a task prints. It records the lines in the output log, and
// shows them on the terminal.
type taskOutput struct {
	w                        *Worker
	task                     procexec.Task
	shownStdout, shownStderr bool

	mu      sync.Mutex
	attempt *outputlog.Attempt // nil until there is a line, or without an output log
	limit   lineLimit
}

// Line implements procexec.TaskOutput.
func (o *taskOutput) Line(line procexec.OutputLine) {
	o.mu.Lock()
	defer o.mu.Unlock()
	stream, message, shown := outputlog.Stdout, TaskStdout, o.shownStdout
	if line.Stream == procexec.Stderr {
		stream, message, shown = outputlog.Stderr, TaskStderr, o.shownStderr
	}
	if o.w.outputLog != nil {
		if o.attempt == nil {
			o.attempt = o.w.outputLog.Attempt(o.task.ID, o.task.Attempt, o.task.Slot, line.Uncertain)
		}
		o.attempt.Line(stream, line.Text, line.Continued)
	}
	if !shown {
		return
	}
	omitted, ok := o.limit.take(time.Now())
	o.logOmitted(omitted)
	if ok {
		e := o.fields(o.w.opts.Log.Info()).Bytes("line", visible(line.Text))
		if line.Continued {
			e = e.Bool("continued", true)
		}
		e.Msg(message)
	}
}

// End implements procexec.TaskOutput.
func (o *taskOutput) End() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.attempt != nil {
		o.attempt.End()
	}
	o.logOmitted(o.limit.omitted)
}

func (o *taskOutput) fields(e *zerolog.Event) *zerolog.Event {
	if o.task.ID != "" {
		e = e.Str("task_id", o.task.ID).Int("attempt", o.task.Attempt)
	}
	return e.Int("slot", o.task.Slot)
}

func (o *taskOutput) logOmitted(lines int64) {
	if lines > 0 {
		o.fields(o.w.opts.Log.Info()).Int64("lines", lines).Msg(TaskOutputOmitted)
	}
}

// maxShownLines is the number of lines per second that one attempt can show on the terminal. More
// lines could not be read, and would delay the lines of other tasks.
const maxShownLines = 100

// lineLimit limits the lines that are shown.
type lineLimit struct {
	second  int64 // Unix time of the current second
	shown   int   // number of lines shown in the current second
	omitted int64 // number of lines that have not been shown, and have not been reported
}

// take reports whether a line may be shown now. If lines were omitted before, it returns their
// number once.
func (l *lineLimit) take(now time.Time) (omitted int64, ok bool) {
	if second := now.Unix(); second != l.second {
		l.second, l.shown = second, 0
		omitted, l.omitted = l.omitted, 0
	}
	if l.shown >= maxShownLines {
		l.omitted++
		return omitted, false
	}
	l.shown++
	return omitted, true
}

// styles matches the escape sequences that select colors and fonts (ECMA-48, SGR).
var styles = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// visible returns what a terminal would show of a line: the text after the last carriage return,
// because progress bars draw over the text before it, and no colors. The display neutralizes other
// control characters.
func visible(line []byte) []byte {
	line = bytes.TrimRight(line, "\r")
	line = line[bytes.LastIndexByte(line, '\r')+1:]
	if bytes.IndexByte(line, '\x1b') >= 0 {
		line = styles.ReplaceAll(line, nil)
	}
	return line
}
