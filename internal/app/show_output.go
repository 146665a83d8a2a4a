package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/ctworker/ctworker/internal/outputlog"
	"github.com/ctworker/ctworker/internal/units"
)

// OutputOptions are the options of "ctworker output".
type OutputOptions struct {
	// File is the output log.
	File string
	// TaskIDs are the tasks to show. If it is empty, all output is shown.
	TaskIDs []string
	// Attempt selects one attempt; 0 selects all. Stream selects stdout or stderr; "" selects both.
	Attempt int
	Stream  string
	Follow  bool
	// Timestamps writes the time before each line.
	Timestamps bool
}

// ShowOutput writes what tasks have printed to stdout, according to an output log. It returns
// ExitFatal after an error, and if there is no output of a task in opts.TaskIDs.
func ShowOutput(ctx context.Context, stdout, stderr io.Writer, opts OutputOptions) int {
	fail := func(err error) int {
		_, _ = fmt.Fprintf(stderr, "ctworker: output: %s\n", printable(err.Error()))
		return ExitFatal
	}
	file, isFile := stdout.(*os.File)
	p := &outputPrinter{
		w: bufio.NewWriter(stdout), opts: opts, found: map[string]bool{},
		safe:   isFile && term.IsTerminal(int(file.Fd())),
		prefix: len(opts.TaskIDs) != 1,
	}
	err := outputlog.Read(ctx, opts.File, outputlog.ReadOptions{TaskIDs: opts.TaskIDs, Follow: opts.Follow}, p.print)
	if err = errors.Join(err, p.endLine(), p.w.Flush()); err != nil {
		return fail(err)
	}
	if ctx.Err() != nil {
		return ExitOK
	}
	code := ExitOK
	for _, id := range opts.TaskIDs {
		if !p.found[id] {
			code = fail(fmt.Errorf("task %q: %s contains no output of this task; it has printed nothing, or has not run", units.ShortID(id), opts.File))
		}
	}
	return code
}

// An outputPrinter prints records of an output log.
type outputPrinter struct {
	w      *bufio.Writer
	opts   OutputOptions
	safe   bool // escape control characters, because the output is a terminal
	prefix bool // write the task ID before each line
	found  map[string]bool
	// open is the record whose line has not been ended yet, because its next piece may follow.
	open *outputlog.Record
}

// pieceLength is the length from which a record may be continued in the next record.
const pieceLength = 64<<10 - 3

func (p *outputPrinter) print(r outputlog.Record) error {
	p.found[r.TaskID] = true
	if p.opts.Attempt > 0 && r.Attempt != p.opts.Attempt || p.opts.Stream != "" && string(r.Stream) != p.opts.Stream {
		return nil
	}
	text := p.text(&r)
	if o := p.open; o == nil || !r.Continued || o.TaskID != r.TaskID || o.Stream != r.Stream || o.Slot != r.Slot {
		if err := p.endLine(); err != nil {
			return err
		}
		text = p.head(&r) + text
	}
	p.open = &r
	if _, err := p.w.WriteString(text); err != nil || len(r.Text) >= pieceLength {
		return err
	}
	if err := p.endLine(); err != nil || !p.opts.Follow {
		return err
	}
	return p.w.Flush()
}

// text returns the text of a record.
func (p *outputPrinter) text(r *outputlog.Record) string {
	text := string(r.Text)
	if r.OmittedLines > 0 {
		text = fmt.Sprintf("[ctworker omitted %d lines (%d bytes)]", r.OmittedLines, r.OmittedBytes)
	}
	if p.safe {
		text = printable(text)
	}
	return text
}

// head returns what is written before a line.
func (p *outputPrinter) head(r *outputlog.Record) string {
	head := ""
	if p.opts.Timestamps {
		head = r.Time.Local().Format(time.DateTime+".000") + " "
	}
	if !p.prefix {
		return head
	}
	if r.TaskID == "" {
		return head + fmt.Sprintf("(process of slot %d): ", r.Slot)
	}
	uncertain := ""
	if r.Uncertain {
		uncertain = "?"
	}
	// The ID is escaped even if the output is not a terminal: an ID with a line break would look like a
	// line of another task.
	return head + strings.ReplaceAll(printable(r.TaskID), "\n", `\n`) + uncertain + ": "
}

func (p *outputPrinter) endLine() error {
	if p.open == nil {
		return nil
	}
	p.open = nil
	return p.w.WriteByte('\n')
}

// CheckOutputOptions returns an error if an option is invalid.
func CheckOutputOptions(opts OutputOptions) error {
	switch {
	case opts.File == "":
		return errors.New("--output-log is missing: give the file that the run wrote with --output-log")
	case opts.Attempt < 0:
		return errors.New("--attempt: give 1 or more")
	case opts.Stream != "" && !slices.Contains([]string{"stdout", "stderr"}, opts.Stream):
		return fmt.Errorf("--stream %q: give stdout or stderr", opts.Stream)
	}
	return nil
}
