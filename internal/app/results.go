package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/ctworker/ctworker/internal/results"
	"github.com/ctworker/ctworker/internal/units"
)

// ResultsOptions are the options of "ctworker results".
type ResultsOptions struct {
	// Logs are the event logs; "-" is standard input.
	Logs []string
	// Format is a results.Format. If it is empty, the extension of Output selects the format.
	Format string
	// Output is the new file; "" and "-" are standard output.
	Output      string
	AllAttempts bool
}

// resultsFormats are the formats by the extension of the file.
var resultsFormats = map[string]results.Format{
	".csv": results.CSV, ".jsonl": results.JSONLines, ".ndjson": results.JSONLines, ".parquet": results.Parquet,
}

// Check returns an error if an option is invalid. It sets the format if it is empty.
func (o *ResultsOptions) Check() error {
	extension := strings.ToLower(filepath.Ext(o.Output))
	format, known := resultsFormats[extension]
	switch {
	case slices.Contains(results.Formats, results.Format(o.Format)):
	case o.Format != "":
		return fmt.Errorf("--format %q: give csv, jsonl or parquet", o.Format)
	case known:
		o.Format = string(format)
	case o.Output != "" && o.Output != "-":
		return fmt.Errorf("--output %q: the name does not determine the format; end it with .csv, .jsonl or .parquet, or add --format", o.Output)
	default:
		o.Format = string(results.JSONLines)
	}
	for i, log := range o.Logs {
		if log == "-" && slices.Contains(o.Logs[i+1:], "-") {
			return errors.New("-: standard input can be only one of the logs")
		}
	}
	return nil
}

// Results exports the results in event logs as a table, and returns the exit code.
func Results(stdin io.Reader, stdout *os.File, stderr io.Writer, opts ResultsOptions) int {
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	incoming := make(chan os.Signal, 1)
	notifyEnd(incoming)
	defer signal.Stop(incoming)
	go func() {
		select {
		case sig := <-incoming:
			signal.Stop(incoming) // a second signal ends the process at once
			stop(signalError{sig})
		case <-ctx.Done():
		}
	}()
	err := exportResults(ctx, stdin, stdout, stderr, opts)
	if err == nil {
		return ExitOK
	}
	_, _ = fmt.Fprintf(stderr, "ctworker: results: %s\n", printable(err.Error()))
	if received := (signalError{}); errors.As(err, &received) {
		if sig, ok := received.signal.(syscall.Signal); ok {
			return 128 + int(sig)
		}
	}
	return ExitFatal
}

// notifyEnd makes the signals that request the end of the process arrive on incoming. SIGPIPE keeps its default
// effect: if the reader of standard output has exited, the process ends silently.
func notifyEnd(incoming chan<- os.Signal) {
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(incoming, sig)
		}
	}
}

func exportResults(ctx context.Context, stdin io.Reader, stdout *os.File, stderr io.Writer, opts ResultsOptions) (err error) {
	if err := checkDistinctLogs(opts.Logs); err != nil {
		return err
	}
	logs, err := openLogs(ctx, stdin, opts.Logs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logs.Close()) }()
	out, err := createResults(stdout, logs, opts)
	if err != nil {
		return err
	}
	stats, err := logs.Export(ctx, out, results.Format(opts.Format), opts.AllAttempts)
	if err == nil {
		err = out.commit()
	}
	if err != nil {
		return errors.Join(err, out.discard())
	}
	for i, path := range opts.Logs {
		reportDamage(stderr, printable(path), logs.Damage[i])
	}
	_, _ = io.WriteString(stderr, printable(resultsSummary(stats, opts)))
	return nil
}

// checkDistinctLogs returns an error if two of the logs are the same file.
func checkDistinctLogs(paths []string) error {
	var before []os.FileInfo
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil { // also for "-"; results.Open reports a missing file
			continue
		}
		for _, other := range before {
			if os.SameFile(info, other) {
				return fmt.Errorf("event log %s: the same file is given twice, and its events would count twice; give it once", path)
			}
		}
		before = append(before, info)
	}
	return nil
}

// openLogs opens the logs. If a log is a pipe, openLogs waits for its writer, but no longer than ctx.
func openLogs(ctx context.Context, stdin io.Reader, paths []string) (*results.Logs, error) {
	type opened struct {
		logs *results.Logs
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		logs, err := results.Open(ctx, paths, stdin)
		done <- opened{logs, err}
	}()
	select {
	case o := <-done:
		return o.logs, o.err
	case <-ctx.Done(): // the goroutine may be blocked in a system call; the process exits
		return nil, context.Cause(ctx)
	}
}

// resultsSummary returns what a user has to know about the rows.
func resultsSummary(s results.Stats, opts ResultsOptions) string {
	text := ""
	if opts.Output != "" && opts.Output != "-" {
		text = units.Count(s.Rows, "row")
		if s.Columns > 0 {
			text += fmt.Sprintf(" with %d columns", s.Columns)
		}
		text += fmt.Sprintf(" written to %s\n", opts.Output)
	}
	for _, note := range []struct {
		count int64
		text  string
	}{
		{s.Unfinished, "without a row, because the task has no final event: its retry has not run; --all-attempts exports its events"},
		{s.Repeated, "with several final events; the row contains the last one, and --all-attempts exports all of them"},
	} {
		if note.count > 0 {
			text += fmt.Sprintf("%s %s\n", units.Count(note.count, "task"), note.text)
		}
	}
	if s.Misfits > 0 {
		text += fmt.Sprintf("%s of event fields replaced by null, because of an unexpected type\n", units.Count(s.Misfits, "value"))
	}
	return text
}

// resultsFile is the output of "ctworker results". A new file gets its name only when it is complete.
type resultsFile struct {
	io.Writer
	file *os.File // nil for standard output
	// path is the final name of the file; "" for a file that is not regular, such as a FIFO, which is written
	// directly.
	path string
}

func createResults(stdout *os.File, logs *results.Logs, opts ResultsOptions) (*resultsFile, error) {
	if opts.Output == "" || opts.Output == "-" {
		return resultsToStdout(stdout, logs, opts)
	}
	r, err := resultsToFile(logs, opts.Output)
	if err != nil {
		return nil, fmt.Errorf("--output: %w", err)
	}
	return r, nil
}

func resultsToStdout(stdout *os.File, logs *results.Logs, opts ResultsOptions) (*resultsFile, error) {
	if info, err := stdout.Stat(); err == nil && info.Mode().IsRegular() && logs.Contains(info) {
		return nil, errors.New("standard output is one of the event logs; write to another file")
	}
	switch isTerminal := term.IsTerminal(int(stdout.Fd())); {
	case isTerminal && opts.Format == string(results.Parquet):
		return nil, errors.New("a Parquet file is binary and cannot be shown on a terminal; write it to a file with -o FILE")
	case isTerminal:
		return &resultsFile{Writer: &terminalLines{w: stdout}}, nil
	}
	return &resultsFile{Writer: stdout}, nil
}

func resultsToFile(logs *results.Logs, path string) (*resultsFile, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // replace the target of a symbolic link, and keep the link
	}
	info, err := os.Stat(path)
	mode := os.FileMode(0)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	case logs.Contains(info):
		return nil, fmt.Errorf("%s is one of the event logs, and is not overwritten; give the name of another file", path)
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory; give the name of a file", path)
	case !info.Mode().IsRegular():
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		return &resultsFile{f, f, ""}, err
	default:
		mode = info.Mode().Perm()
	}
	f, err := newTemporary(path, mode)
	return &resultsFile{f, f, path}, err
}

// newTemporary creates a hidden temporary file in the folder of path. mode is the mode of the file that it will
// replace; 0 if there is none.
func newTemporary(path string, mode os.FileMode) (*os.File, error) {
	for i := 0; ; i++ {
		name := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d-%d.tmp", units.ShortID(filepath.Base(path)), os.Getpid(), i))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		switch {
		case errors.Is(err, os.ErrExist) && i < 1000:
			continue
		case err != nil:
			return nil, err
		case mode != 0:
			if err := f.Chmod(mode); err != nil {
				return nil, errors.Join(err, f.Close(), os.Remove(name))
			}
		}
		return f, nil
	}
}

// commit makes the file durable, and gives it its name.
func (r *resultsFile) commit() error {
	switch {
	case r.file == nil:
		return nil
	case r.path == "":
		return r.file.Close()
	}
	if err := r.file.Sync(); err != nil {
		return err
	}
	if err := r.file.Close(); err != nil {
		return err
	}
	return os.Rename(r.file.Name(), r.path)
}

// discard deletes the incomplete file.
func (r *resultsFile) discard() error {
	if r.file == nil {
		return nil
	}
	_ = r.file.Close() // commit may have closed it
	if r.path == "" {
		return nil
	}
	return os.Remove(r.file.Name())
}

// terminalLines escapes control characters on their way to a terminal.
type terminalLines struct {
	w    io.Writer
	rest []byte // an incomplete line
}

// Write implements io.Writer. It retains the last line until its end is written.
func (t *terminalLines) Write(b []byte) (int, error) {
	end := strings.LastIndexByte(string(b), '\n') + 1
	if end == 0 {
		t.rest = append(t.rest, b...)
		return len(b), nil
	}
	text := strings.ReplaceAll(string(t.rest)+string(b[:end]), "\r\n", "\n")
	t.rest = append(t.rest[:0], b[end:]...)
	if _, err := io.WriteString(t.w, printable(text)); err != nil {
		return 0, err
	}
	return len(b), nil
}
