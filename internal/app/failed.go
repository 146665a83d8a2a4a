package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/units"
	"github.com/ctworker/ctworker/pipeline"
)

// FailedOptions are the options of "ctworker failed".
type FailedOptions struct {
	Logs []string
	// Kinds selects failures as --rerun does. Empty selects all.
	Kinds string
	JSON  bool
	// Tasks is a new file to which the failed tasks of TaskFile are written; "" if none is written.
	Tasks, TaskFile string
	Format          FileFormat
}

// failedTask is a task whose last final event does not report completion.
type failedTask struct {
	ID      string `json:"task_id"`
	Outcome string `json:"outcome"`
	Attempt int    `json:"attempt"`
	Reason  string `json:"reason"`
	order   int64
}

// Failed reads event logs. It writes the failed tasks to stdout, and a summary to stderr. It
// returns ExitOK if no task failed, ExitStrict if a task failed, and ExitFatal after an error.
func Failed(ctx context.Context, stdout, stderr io.Writer, opts FailedOptions) int {
	fail := func(err error) int {
		_, _ = fmt.Fprintf(stderr, "ctworker: failed: %v\n", err)
		return ExitFatal
	}
	if opts.Kinds == "" {
		opts.Kinds = "failed"
	}
	kinds, err := journal.ParseKinds(opts.Kinds)
	switch {
	case err != nil:
		return Usage(stderr, "ctworker", "ctworker help failed", fmt.Errorf("--kind %q: %w", opts.Kinds, err))
	case (opts.Tasks == "") != (opts.TaskFile == ""):
		return Usage(stderr, "ctworker", "ctworker help failed", errors.New("--tasks and --task-file must be given together: the failed tasks in the file given with --task-file are written to the new file given with --tasks"))
	}
	failed, ended, err := readFailed(ctx, stderr, opts.Logs, kinds)
	if err != nil {
		return fail(err)
	}
	if err := printFailed(stdout, failed, opts.JSON); err != nil {
		return fail(err)
	}
	if opts.Tasks != "" {
		n, err := writeFailed(ctx, stderr, failed, opts)
		if err != nil {
			return fail(err)
		}
		_, _ = fmt.Fprintf(stderr, "%d tasks written to %s\n", n, opts.Tasks)
	}
	_, _ = io.WriteString(stderr, printable(failedSummary(failed, ended)))
	if len(failed) > 0 {
		return ExitStrict
	}
	return ExitOK
}

// readFailed returns the failed tasks of the logs, and the numbers of tasks.
func readFailed(ctx context.Context, stderr io.Writer, logs []string, kinds journal.Kinds) (failed map[string]failedTask, counts journal.Counts, err error) {
	failed = map[string]failedTask{}
	all := journal.New(0)
	order := int64(0)
	for _, path := range logs {
		f, err := os.Open(path)
		if err != nil {
			return nil, journal.Counts{}, fmt.Errorf("event log: %w", err)
		}
		var damage journal.Damage
		err = journal.Lines(ctx, f, func(number int64, line []byte, complete bool) {
			e, ok, err := journal.Parse(line)
			if err != nil {
				damage.Add(number, complete)
				return
			}
			damage.Events++
			if !ok {
				return
			}
			all.Add(e)
			if e.Retry {
				delete(failed, string(e.TaskID))
				return
			}
			order++
			if !kinds.Has(e.Kind) {
				delete(failed, string(e.TaskID))
				return
			}
			failed[string(e.TaskID)] = detailed(e, line, order)
		})
		_ = f.Close()
		if err != nil {
			return nil, journal.Counts{}, fmt.Errorf("event log %s: %w", path, err)
		}
		reportDamage(stderr, path, damage)
		if damage.NotALog() {
			return nil, journal.Counts{}, fmt.Errorf("%s: contains no event, so it is not an event log", path)
		}
	}
	return failed, all.Counts(), nil
}

// detailed returns a failed task with the details of its event, which is the JSON object in line.
func detailed(e journal.Event, line []byte, order int64) failedTask {
	var fields struct {
		Exception  string `json:"exception"`
		ExitCode   int    `json:"exit_code"`
		StderrLine string `json:"stderr_line"`
	}
	_ = json.Unmarshal(line, &fields) // journal.Parse has checked the line; lone surrogates are replaced
	kind := map[journal.Kind]outcome.Kind{journal.Exception: outcome.Exception, journal.TimedOut: outcome.TimedOut, journal.Exited: outcome.Exited}[e.Kind]
	return failedTask{
		ID: string(e.TaskID), Outcome: e.Kind.String(), Attempt: max(e.Attempt, 1), order: order,
		Reason: outcome.Reason(kind, fields.Exception, fields.ExitCode, fields.StderrLine),
	}
}

// printFailed prints the failed tasks in the order of their events.
func printFailed(stdout io.Writer, failed map[string]failedTask, asJSON bool) error {
	w := bufio.NewWriter(stdout)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for _, t := range slices.SortedFunc(maps.Values(failed), func(a, b failedTask) int { return int(a.order - b.order) }) {
		if asJSON {
			_ = e.Encode(t) // Flush returns the error
			continue
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", oneField(t.ID), t.Outcome, t.Attempt, oneField(t.Reason))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// oneField returns text with tabs, line breaks and other control characters escaped.
func oneField(text string) string {
	return printable(units.OneLine(text))
}

// writeFailed writes the failed tasks of the task file to a new file, as JSON lines.
func writeFailed(ctx context.Context, stderr io.Writer, failed map[string]failedTask, opts FailedOptions) (count int64, err error) {
	f, err := os.OpenFile(opts.Tasks, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, os.ErrExist) {
		return 0, fmt.Errorf("--tasks %s: the file exists already, and is not overwritten; give the name of a new file", strconv.Quote(opts.Tasks))
	}
	if err != nil {
		return 0, fmt.Errorf("--tasks: %w", err)
	}
	w := bufio.NewWriter(f)
	var b []byte
	err = eachTask(ctx, opts.TaskFile, opts.Format, stderr, func(t *pipeline.Task) error {
		if _, ok := failed[t.ID]; ok {
			count++
			b = append(t.AppendJSON(b[:0]), '\n')
			_, err := w.Write(b)
			return err
		}
		return nil
	})
	if err = errors.Join(err, w.Flush(), f.Close()); err != nil {
		err = errors.Join(err, os.Remove(opts.Tasks)) // a run with an incomplete file would miss tasks
	}
	return count, err
}

// failedSummary returns the numbers of failed tasks by outcome, and how to run these tasks again.
func failedSummary(failed map[string]failedTask, n journal.Counts) string {
	counts := map[string]int{}
	for _, t := range failed {
		counts[t.Outcome]++
	}
	waiting := ""
	if n.Unfinished > 0 {
		waiting = fmt.Sprintf("%d more tasks requested a retry that has not run; to run it, repeat the command of the run with --resume\n", n.Unfinished)
	}
	if len(failed) == 0 {
		return fmt.Sprintf("none of %d tasks failed\n", n.Done) + waiting
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[name], name))
	}
	return fmt.Sprintf("%d of %d tasks failed: %s\nto run them again, repeat the command of the run with --rerun failed\n", len(failed), n.Done, strings.Join(parts, ", ")) + waiting
}
