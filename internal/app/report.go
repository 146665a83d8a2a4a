package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/report"
)

// ReportOptions are the options of "ctworker report".
type ReportOptions struct {
	Logs []string
	// Output is the file to which the report is written; "" or "-" is standard output.
	Output string
	// Format is text, html or json. If it is empty, the extension of Output determines it.
	Format string
	// Price is the price of a machine per hour. 0 omits the costs.
	Price float64
}

// Report reads event logs, writes a report to stdout or to a file, and returns the exit code. A task that
// failed is not an error.
func Report(ctx context.Context, stdout, stderr io.Writer, opts ReportOptions) int {
	format, err := reportFormat(opts)
	if err != nil {
		return Usage(stderr, "ctworker", "ctworker help report", err)
	}
	page, err := makeReport(ctx, stderr, format, opts)
	if err == nil {
		err = writeReport(stdout, opts.Output, page)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "ctworker: report: %v\n", err)
		return ExitFatal
	}
	if toFile(opts.Output) {
		_, _ = fmt.Fprintf(stderr, "report written to %s\n", printable(opts.Output))
	}
	return ExitOK
}

func toFile(output string) bool { return output != "" && output != "-" }

// reportFormat returns the format of the report.
func reportFormat(opts ReportOptions) (string, error) {
	if opts.Price < 0 || opts.Price > 1e9 || opts.Price != opts.Price {
		return "", fmt.Errorf("--price %v: must be between 0 and 1000000000", opts.Price)
	}
	switch opts.Format {
	case "text", "html", "json":
		return opts.Format, nil
	case "":
	default:
		return "", fmt.Errorf("--format %s: unknown format; give text, html or json", strconv.Quote(opts.Format))
	}
	if !toFile(opts.Output) {
		return "text", nil
	}
	switch filepath.Ext(opts.Output) {
	case ".html", ".htm":
		return "html", nil
	case ".json":
		return "json", nil
	case ".txt":
		return "text", nil
	}
	return "", fmt.Errorf("--output %s: the name does not determine the format; give a name that ends with .html, .txt or .json, or set --format", strconv.Quote(opts.Output))
}

// makeReport reads the logs, and returns the report in the given format.
func makeReport(ctx context.Context, stderr io.Writer, format string, opts ReportOptions) ([]byte, error) {
	builder := report.NewBuilder(report.Options{Price: opts.Price, Logs: opts.Logs})
	var read []os.FileInfo
	for _, path := range opts.Logs {
		damage, info, err := readLog(ctx, path, builder.Read, read)
		if err != nil {
			return nil, err
		}
		read = append(read, info)
		reportDamage(stderr, path, damage)
		if damage.NotALog() {
			return nil, fmt.Errorf("%s: contains no event, so it is not an event log", path)
		}
		if toFile(opts.Output) {
			if to, err := os.Stat(opts.Output); err == nil && os.SameFile(to, info) {
				return nil, fmt.Errorf("--output %s: is the event log itself; give another name", strconv.Quote(opts.Output))
			}
		}
	}
	r := builder.Report()
	var page bytes.Buffer
	var err error
	switch format {
	case "html":
		err = r.WriteHTML(&page)
	case "json":
		e := json.NewEncoder(&page)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	default:
		var text bytes.Buffer
		err = r.WriteText(&text)
		page.WriteString(printable(text.String()))
	}
	return page.Bytes(), err
}

// readLog passes a log to add. It returns an error if the log is one of those that were read before.
func readLog(ctx context.Context, path string, add func(context.Context, io.Reader) (journal.Damage, error), before []os.FileInfo) (journal.Damage, os.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return journal.Damage{}, nil, fmt.Errorf("event log: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return journal.Damage{}, nil, fmt.Errorf("event log: %w", err)
	}
	for _, other := range before {
		if os.SameFile(info, other) {
			return journal.Damage{}, nil, fmt.Errorf("event log %s: the same file is given twice, and its events would count twice; give it once", path)
		}
	}
	damage, err := add(ctx, f)
	if err != nil {
		return damage, nil, fmt.Errorf("event log %s: %w", path, err)
	}
	return damage, info, nil
}

// writeReport writes the report to stdout, or to a file. It replaces the file only when the new report is
// complete.
func writeReport(stdout io.Writer, output string, page []byte) error {
	if !toFile(output) {
		if _, err := stdout.Write(page); err != nil {
			return fmt.Errorf("write to standard output: %w", err)
		}
		return nil
	}
	if info, err := os.Stat(output); err == nil && !info.Mode().IsRegular() { // such as /dev/stdout
		return os.WriteFile(output, page, 0o666)
	}
	f, err := os.CreateTemp(filepath.Dir(output), "."+filepath.Base(output)+".*")
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	_, err = f.Write(page)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), output)
	}
	if err != nil {
		return fmt.Errorf("--output: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
