package program

import (
	"bytes"
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
	"github.com/ctworker/ctworker/sinks/progress"
)

// A display is what a front end shows on standard error: the log, the progress, the
// summary.
//
//	log, summary ─▶ output (bounded) ─▶ screen ─▶ bar, if there is one ─▶ standard error
//
// Nothing on the left waits for the reader of standard error for long.
type display struct {
	stderr *os.File
	out    *output
	screen *switchWriter
	log    zerolog.Logger
	// terminal says that standard error is a terminal, cursor that it understands cursor
	// movement, and console that the log is for people.
	terminal, cursor, console bool
	hasBar                    atomic.Bool
	// endBy is until when the end of the program waits for the reader; zero before the end.
	endBy time.Time
	// atEnd receives the signals that come while the program ends: the work is done, so
	// they end nothing but the wait for the reader.
	atEnd chan os.Signal
}

func newDisplay(stderr *os.File, cfg *config.Config) *display {
	d := &display{stderr: stderr, screen: &switchWriter{w: stderr}, atEnd: make(chan os.Signal, 1)}
	d.terminal = term.IsTerminal(int(stderr.Fd()))
	d.cursor = d.terminal && movesCursor(os.Getenv("TERM"))
	d.console = cfg.LogFormat == "console" || cfg.LogFormat != "json" && d.terminal
	d.out = newOutput(d.screen)
	level := zerolog.InfoLevel
	if cfg.Verbose {
		level = zerolog.DebugLevel
	}
	d.log = newLog(d, d.out).Level(level)
	d.out.note = func(dropped int64) []byte {
		var line bytes.Buffer
		log := zerolog.New(d.formatted(&line)).With().Timestamp().Logger()
		log.Warn().Int64("dropped", dropped).Msgf("%d log lines dropped: standard error is not being read", dropped)
		return line.Bytes()
	}
	return d
}

// newLog returns a logger that writes to out as d has it.
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
	format := time.DateTime
	if d.terminal {
		format = time.TimeOnly
	}
	return zerolog.ConsoleWriter{
		Out: w, TimeFormat: format,
		NoColor: !d.cursor || os.Getenv("NO_COLOR") != "",
		// Fields are quoted; a message is not, and may have parts of others' data.
		FormatPrepare: func(event map[string]any) error {
			if text, ok := event[zerolog.MessageFieldName].(string); ok {
				event[zerolog.MessageFieldName] = printable(text)
			}
			return nil
		},
	}
}

// leveled keeps what is a warning or worse, whatever else is dropped.
type leveled struct {
	io.Writer
	kept io.Writer
}

// WriteLevel implements zerolog.LevelWriter. It returns no error: zerolog would report
// it on standard error, and wait for the reader.
func (l leveled) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	w := l.Writer
	if level >= zerolog.WarnLevel && level != zerolog.NoLevel {
		w = l.kept
	}
	_, _ = w.Write(p)
	return len(p), nil
}

// kept returns a logger none of whose lines is dropped, for the end of a run.
func (d *display) kept() zerolog.Logger { return d.log.Output(d.formatted(keeper{d.out})) }

type keeper struct{ out *output }

func (k keeper) Write(p []byte) (int, error) {
	k.out.Keep(p)
	return len(p), nil
}

// neutral escapes, in JSON, the control characters that JSON allows in a string and
// that a terminal obeys.
type neutral struct{ w io.Writer }

func (n neutral) Write(p []byte) (int, error) {
	if _, err := n.w.Write([]byte(printable(string(p)))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// printable returns text with its control and formatting characters escaped, such as
// those that begin an escape sequence or reverse the order of a line. Line breaks and
// tabs stay.
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

// cursorTerminals are the beginnings of the names of terminals that understand the
// cursor movement of ECMA-48.
var cursorTerminals = []string{
	"alacritty", "ansi", "contour", "cygwin", "eterm", "foot", "ghostty", "gnome", "iterm", "kitty", "konsole", "linux",
	"mintty", "mlterm", "ms-terminal", "nxterm", "pcansi", "putty", "rio", "rxvt", "screen", "st-", "tmux", "vscode", "vt1", "vt2", "vt3",
	"vt4", "vt5", "vte", "wezterm", "xterm", "zellij",
}

// movesCursor reports whether a terminal of this name, as TERM has it, is known to
// understand cursor movement.
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

// newLine begins a line after the ^C that a terminal has echoed. A bar erases it.
func (d *display) newLine() {
	if d.terminal && !d.hasBar.Load() {
		d.out.Keep([]byte{'\n'})
	}
}

// progressInterval is how often progress is logged if no bar is drawn.
const progressInterval = 10 * time.Second

// showProgress shows how far something has come until what it returns is called.
func (d *display) showProgress(status func() progress.Status, asBar bool) (stop func()) {
	if !asBar || !d.cursor || !d.console {
		return progress.StartLines(d.log, progressInterval, status).Stop
	}
	var bar *progress.Bar
	d.screen.exchange(func() io.Writer {
		bar = progress.StartBar(d.stderr, status)
		d.hasBar.Store(true)
		return bar // the log goes above the bar
	})
	return func() {
		d.bounded(func() {
			d.screen.exchange(func() io.Writer {
				bar.Stop()
				d.hasBar.Store(false)
				return d.stderr
			})
		})
	}
}

// left is how long the end of the program may still wait for the reader. The first
// call begins it.
func (d *display) left() time.Duration {
	if d.endBy.IsZero() {
		d.endBy = time.Now().Add(outputLinger)
	}
	return max(time.Until(d.endBy), 0)
}

// hurry has the end wait for the reader hardly at all.
func (d *display) hurry() { d.endBy = time.Now().Add(outputLinger / 10) }

// bounded calls f, and does not wait for it beyond the end's bound.
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

// print shows text, which is whole lines, such as a summary.
func (d *display) print(text string) { d.out.Keep([]byte(printable(text))) }

// close writes what is left, if the reader takes it in time.
func (d *display) close() {
	d.out.close(d.left(), d.atEnd)
	signal.Stop(d.atEnd)
}

// logError logs each line of an error, as several may have been joined.
func (d *display) logError(before string, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		d.log.Error().Msg(before + line)
	}
}

// usage reports what is wrong with the command line or the configuration.
func (d *display) usage(name, help string, err error) int {
	d.print(usageText(name, help, err))
	return ExitUsage
}
