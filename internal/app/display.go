package app

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/progress"
	"github.com/ctworker/ctworker/internal/units"
	"github.com/ctworker/ctworker/internal/worker"
)

// A display writes the log, the progress and the summary to standard error.
//
//	log, summary ─▶ output (bounded) ─▶ screen ─▶ bar, if there is one ─▶ standard error
//
// The log and the summary are buffered, so a slow reader of standard error delays the run only
// briefly.
type display struct {
	stderr *os.File
	out    *output
	screen *swapWriter
	log    zerolog.Logger
	// terminal reports whether standard error is a terminal, and cursor whether that terminal
	// supports cursor movement. console reports whether the log is formatted as text.
	terminal, cursor, console bool
	recordsOutput             bool // there is an output log, so the standard error of commands is not logged elsewhere than on a terminal
	hasBar                    atomic.Bool
	// endBy is the time until which the program, at its end, waits for the reader of standard error. It is
	// zero before the end.
	endBy time.Time
	// atEnd receives the signals that arrive after the work is done. These signals only end the
	// wait for the reader of standard error.
	atEnd chan os.Signal
}

func newDisplay(stderr *os.File, cfg *config.Config) *display {
	d := &display{stderr: stderr, screen: &swapWriter{w: stderr}, atEnd: make(chan os.Signal, 1)}
	d.terminal = term.IsTerminal(int(stderr.Fd()))
	d.cursor = d.terminal && movesCursor(os.Getenv("TERM"))
	d.recordsOutput = cfg.OutputLog != "" || cfg.OutputDirPerTask != ""
	d.console = cfg.LogFormat == "console" || cfg.LogFormat != "json" && d.terminal
	d.out = newOutput(d.screen)
	level, err := zerolog.ParseLevel(cfg.LogLevel)
	if err != nil || cfg.LogLevel == "" {
		level = zerolog.InfoLevel
	}
	d.log = newLog(d, d.out).Level(level)
	d.out.note = func(dropped int64) []byte {
		var line bytes.Buffer
		log := zerolog.New(d.formatted(&line)).With().Timestamp().Logger()
		log.Warn().Int64("dropped", dropped).Msg("dropped log lines because standard error was not read fast enough")
		return line.Bytes()
	}
	return d
}

// newLog returns a logger that writes to out in the format of d.
func newLog(d *display, out *output) zerolog.Logger {
	return zerolog.New(leveled{Writer: d.formatted(out), kept: d.formatted(keeper{out})}).With().Timestamp().Logger()
}

// formatted returns a writer that formats the logger's JSON lines.
func (d *display) formatted(w io.Writer) io.Writer {
	switch {
	case d.console:
		return d.consoleWriter(w)
	case d.terminal:
		return neutral{w}
	}
	return w
}

func (d *display) consoleWriter(w io.Writer) io.Writer {
	stderrShown := d.terminal || !d.recordsOutput
	format := time.DateTime
	if d.terminal {
		format = time.TimeOnly
	}
	return zerolog.ConsoleWriter{
		Out: w, TimeFormat: format,
		NoColor: !d.cursor || os.Getenv("NO_COLOR") != "",
		// ConsoleWriter quotes fields but not the message, which may contain a task's data.
		FormatPrepare: func(event map[string]any) error {
			shorten(event, stderrShown)
			shortenResume(event)
			if text, ok := event[zerolog.MessageFieldName].(string); ok {
				event[zerolog.MessageFieldName] = printable(text)
			}
			return nil
		},
	}
}

// shorten moves the fields of a log line about a task into the message of that line. stderrShown states that
// the standard error of tasks is in the log.
func shorten(event map[string]any, stderrShown bool) {
	text := func(field string) string {
		value, _ := event[field].(string)
		return units.OneLine(value)
	}
	id, _ := event["task_id"].(string)
	id = units.ShortID(id)
	reason, line := text("reason"), text("line")
	if outcome := text("outcome"); stderrShown && (outcome == "exited" || outcome == "timed_out") {
		reason, _, _ = strings.Cut(reason, ": ")
	}
	switch event[zerolog.MessageFieldName] {
	case worker.TaskFailed:
		event[zerolog.MessageFieldName] = fmt.Sprintf("task %s failed: %s", id, reason)
	case worker.TaskRetried:
		event[zerolog.MessageFieldName] = fmt.Sprintf("task %s failed and will be retried: %s", id, reason)
	case worker.TaskStderr, worker.TaskStdout:
		event[zerolog.MessageFieldName] = fmt.Sprintf("%s: %s", cmp.Or(id, fmt.Sprintf("process of slot %v", event["slot"])), line)
	case worker.TaskOutputOmitted:
		event[zerolog.MessageFieldName] = fmt.Sprintf("%s: %v lines %s", cmp.Or(id, fmt.Sprintf("process of slot %v", event["slot"])), event["lines"], worker.TaskOutputOmitted)
	default:
		return
	}
	for _, field := range []string{"task_id", "attempt", "slot", "outcome", "reason", "line", "lines", "continued"} {
		delete(event, field)
	}
}

// shortenResume puts the numbers of the log line about a continued run into its message.
func shortenResume(event map[string]any) {
	message, _ := event[zerolog.MessageFieldName].(string)
	if event["component"] != "resume" || !strings.HasPrefix(message, "continuing: ") || event["total"] == nil {
		return
	}
	number := func(field string) string {
		defer delete(event, field)
		if event[field] == nil {
			return "0"
		}
		return fmt.Sprint(event[field])
	}
	text := fmt.Sprintf("continuing: %s of %s tasks are done", number("done"), number("total"))
	if failed := number("failed"); failed != "0" {
		text += fmt.Sprintf(" (%s of them failed; --rerun failed runs them again)", failed)
	}
	text += fmt.Sprintf(", %s to run", number("to_run"))
	if rerun := number("rerun"); rerun != "0" {
		text += fmt.Sprintf(" (%s of them have failed before)", rerun)
	}
	event[zerolog.MessageFieldName] = text
	delete(event, "component")
}

// leveled is a zerolog.LevelWriter. It writes warnings and errors to kept, which does not drop
// them.
type leveled struct {
	io.Writer
	kept io.Writer
}

// WriteLevel implements zerolog.LevelWriter. It never returns an error, because zerolog would write
// this error to standard error, and that write could block.
func (l leveled) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	w := l.Writer
	if level >= zerolog.WarnLevel && level != zerolog.NoLevel {
		w = l.kept
	}
	_, _ = w.Write(p)
	return len(p), nil
}

// kept returns a logger for the end of a run. Its lines are not dropped if the reader is slow.
func (d *display) kept() zerolog.Logger { return d.log.Output(d.formatted(keeper{d.out})) }

type keeper struct{ out *output }

func (k keeper) Write(p []byte) (int, error) {
	k.out.Keep(p)
	return len(p), nil
}

// neutral escapes control characters that JSON permits in strings, but that a terminal would
// interpret.
type neutral struct{ w io.Writer }

func (n neutral) Write(p []byte) (int, error) {
	if _, err := n.w.Write([]byte(printable(string(p)))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// printable returns text with control and formatting characters escaped, such as those that
// start an escape sequence or reverse the text direction. Line breaks and tabs are kept.
func printable(text string) string {
	if strings.IndexFunc(text, isHostile) < 0 {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			b.WriteString("\uFFFD")
		case !isHostile(r):
			b.WriteRune(r)
		default:
			_, _ = fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func isHostile(r rune) bool {
	if r == '\n' || r == '\t' {
		return false
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r <= 0xFFFF || r == utf8.RuneError
}

// cursorTerminals are prefixes of the names of terminals that support the cursor movement of
// ECMA-48.
var cursorTerminals = []string{
	"alacritty", "ansi", "contour", "cygwin", "eterm", "foot", "ghostty", "gnome", "iterm", "kitty", "konsole", "linux",
	"mintty", "mlterm", "ms-terminal", "nxterm", "pcansi", "putty", "rio", "rxvt", "screen", "st-", "tmux", "vscode", "vt1", "vt2", "vt3",
	"vt4", "vt5", "vte", "wezterm", "xterm", "zellij",
}

// movesCursor reports whether a terminal is known to support cursor movement. name is the name of
// the terminal, from TERM.
func movesCursor(name string) bool {
	name = strings.ToLower(name)
	if name == "st" {
		return true
	}
	for _, known := range cursorTerminals {
		if strings.HasPrefix(name, known) {
			return true
		}
	}
	return false
}

// newLine starts a new line after a terminal has echoed ^C. It does nothing if there is a progress
// bar, which erases the echo.
func (d *display) newLine() {
	if d.terminal && !d.hasBar.Load() {
		d.out.Keep([]byte{'\n'})
	}
}

// progressInterval is the interval between log lines about the progress, if no bar is drawn.
const progressInterval = 10 * time.Second

// showProgress shows the progress, as a bar if possible, until stop is called.
func (d *display) showProgress(status func() progress.Status, asBar bool) (stop func()) {
	if !asBar || !d.cursor || !d.console {
		return progress.StartLines(d.log, progressInterval, status).Stop
	}
	var bar *progress.Bar
	d.screen.Swap(func() io.Writer {
		bar = progress.StartBar(d.stderr, status)
		d.hasBar.Store(true)
		return bar // the log goes above the bar
	})
	return func() {
		d.bounded(func() {
			d.screen.Swap(func() io.Writer {
				bar.Stop()
				d.hasBar.Store(false)
				return d.stderr
			})
		})
	}
}

// left returns how long the program, at its end, may still wait for the reader of standard error.
// The first call starts the time limit.
func (d *display) left() time.Duration {
	if d.endBy.IsZero() {
		d.endBy = time.Now().Add(outputLinger)
	}
	return max(time.Until(d.endBy), 0)
}

// hurry shortens the time limit for the reader.
func (d *display) hurry() { d.endBy = time.Now().Add(outputLinger / 10) }

// bounded calls f in a goroutine, and waits until f returns or the time left has passed.
func (d *display) bounded(f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	timer := time.NewTimer(d.left())
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// print writes text, such as a summary or a question, to standard error.
func (d *display) print(text string) { d.out.Keep([]byte(printable(text))) }

// close writes the pending output, if the reader accepts it in time.
func (d *display) close() {
	d.out.close(d.left(), d.atEnd)
	signal.Stop(d.atEnd)
}

// logError logs an error. It logs one line for each error that errors.Join has joined.
func (d *display) logError(before string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // only the outermost error is split
		for _, e := range joined.Unwrap() {
			d.logError(before, e)
		}
		return
	}
	d.log.Error().Msg(before + err.Error())
}

// usage reports what is wrong with the command line or the configuration.
func (d *display) usage(name, help string, err error) int {
	d.print(usageText(name, help, err))
	return ExitUsage
}
