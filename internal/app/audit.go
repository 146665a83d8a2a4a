package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/audit"
	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/units"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/taskfile"
	"github.com/ctworker/ctworker/sources/taskfile/remote"
)

// FileFormat is the format of a task file whose name does not determine it. See taskfile.Options.
type FileFormat struct{ CSV, Lines bool }

// AuditOptions are the options of "ctworker audit".
type AuditOptions struct {
	TaskFile string
	// Inputs iterates over the tasks of the run if they come from the command line. It replaces TaskFile.
	Inputs iter.Seq2[pipeline.Task, error]
	// Format is the format of TaskFile.
	Format FileFormat
	Logs   []string
	JSON   bool
}

// shownFindings is the number of tasks that are listed for each problem.
const shownFindings = 10

// Audit compares a task file with event logs, prints the result to stdout, and returns the exit code:
// ExitOK only if each task has exactly one final event.
func Audit(ctx context.Context, stdout, stderr io.Writer, opts AuditOptions) int {
	if opts.TaskFile == "-" {
		return Usage(stderr, "ctworker", "ctworker help audit", errors.New("--task-file -: the file may have to be read twice; give the name of a file"))
	}
	tasks := func(yield func(string) error) error {
		return eachTask(ctx, opts.TaskFile, opts.Format, stderr, func(t *pipeline.Task) error { return yield(t.ID) })
	}
	if opts.Inputs != nil {
		tasks = func(yield func(string) error) error {
			for task, err := range opts.Inputs {
				if err == nil {
					err = yield(task.ID)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	report, err := audit.Run(ctx, audit.Options{Tasks: tasks, Logs: opts.Logs})
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "ctworker: audit: %v\n", err)
		return ExitFatal
	}
	for _, path := range opts.Logs {
		damage := report.Damage[path]
		if damage.NotALog() {
			_, _ = fmt.Fprintf(stderr, "ctworker: audit: %s: contains no event, so it is not an event log\n", path)
			return ExitFatal
		}
		reportDamage(stderr, path, damage)
	}
	if err := printReport(stdout, report, opts.JSON); err != nil {
		_, _ = fmt.Fprintf(stderr, "ctworker: %v\n", err)
		return ExitFatal
	}
	if len(report.Counts) > 0 {
		return ExitFatal
	}
	return ExitOK
}

// eachTask calls f for each task of a task file.
func eachTask(ctx context.Context, path string, format FileFormat, stderr io.Writer, f func(*pipeline.Task) error) error {
	log := zerolog.New(zerolog.ConsoleWriter{Out: stderr, NoColor: true}).Level(zerolog.ErrorLevel)
	source, err := remote.OpenTasks(ctx, path, remote.Options{Log: log}, taskfile.Options{CSV: format.CSV, Lines: format.Lines})
	if err != nil {
		return fmt.Errorf("--task-file: %w", err)
	}
	defer func() { _ = source.Close(ctx) }()
	for {
		tasks, err := source.Receive(ctx, receiveLimit)
		for _, d := range tasks {
			if err := f(&d.Task); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("--task-file: %w", err)
		}
	}
}

// receiveLimit is the number of tasks that are read at a time.
const receiveLimit = 256

// reportDamage prints which lines of an event log were ignored.
func reportDamage(stderr io.Writer, path string, d journal.Damage) {
	if d.Count > 0 {
		lines := strings.Trim(fmt.Sprint(d.Lines), "[]")
		_, _ = fmt.Fprintf(stderr, "ctworker: %s: ignored %d damaged lines: %s\n", path, d.Count, lines)
	}
	if d.Torn {
		_, _ = fmt.Fprintf(stderr, "ctworker: %s: ignored the incomplete last line\n", path)
	}
}

func printReport(stdout io.Writer, r *audit.Report, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(stdout)
		for _, f := range r.Findings {
			if err := e.Encode(f); err != nil {
				return fmt.Errorf("write to standard output: %w", err)
			}
		}
		return e.Encode(summaryOf(r))
	}
	_, err := io.WriteString(stdout, printable(reportText(r)))
	if err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// auditSummary is the last line of the output in JSON.
type auditSummary struct {
	Proven   bool                    `json:"proven"`
	Tasks    int64                   `json:"task_count"`
	Events   int64                   `json:"event_count"`
	Outcomes map[string]int64        `json:"outcomes"`
	Problems map[audit.Problem]int64 `json:"problems"`
}

func summaryOf(r *audit.Report) auditSummary {
	s := auditSummary{Proven: len(r.Counts) == 0, Tasks: r.Tasks, Events: r.Events, Outcomes: map[string]int64{}, Problems: r.Counts}
	for k, n := range r.Kinds {
		s.Outcomes[k.String()] = n
	}
	return s
}

// reportText returns the statement that each task has exactly one final event, or else the first tasks with
// each problem.
func reportText(r *audit.Report) string {
	if len(r.Counts) == 0 {
		kinds := ""
		for _, k := range []journal.Kind{journal.Completed, journal.Exception, journal.TimedOut, journal.Exited} {
			if n := r.Kinds[k]; n > 0 {
				kinds += fmt.Sprintf(", %d %s", n, k)
			}
		}
		return fmt.Sprintf("%s, and each has exactly one final event%s; %s in all\n", units.Count(r.Tasks, "task"), strings.Replace(kinds, ",", ":", 1), units.Count(r.Events, "attempt"))
	}
	about := map[audit.Problem]string{
		audit.Missing:       "have no final event: they or their retries have not run, or their events are lost",
		audit.Repeated:      "have more than one final event: they have run several times",
		audit.Contradictory: "have final events with different outcomes",
		audit.Unknown:       "have events, but are not in the task file",
	}
	text := ""
	for _, p := range audit.Problems {
		if r.Counts[p] == 0 {
			continue
		}
		text += fmt.Sprintf("%s: %d tasks %s\n", p, r.Counts[p], about[p])
		shown := 0
		for _, f := range r.Findings {
			if f.Problem != p {
				continue
			}
			if shown++; shown > shownFindings {
				text += "  …\n"
				break
			}
			text += "  " + strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(f.TaskID) + attemptsText(f) + "\n"
		}
	}
	return text + fmt.Sprintf("%d tasks, %d attempts; to list all findings, use --json\n", r.Tasks, r.Events)
}

// attemptsText returns the attempt numbers of repeated events. If all numbers differ, the reason is
// redelivery: a queue delivers a task again if a worker is lost before it has acknowledged the task.
func attemptsText(f *audit.Finding) string {
	if len(f.Attempts) < 2 {
		return ""
	}
	text := fmt.Sprintf(" (%d final events, attempts %s", f.Finals, strings.Trim(fmt.Sprint(f.Attempts), "[]"))
	if distinct := slices.Compact(slices.Sorted(slices.Values(f.Attempts))); len(distinct) == len(f.Attempts) {
		text += ": delivered again"
	}
	return text + ")"
}

// DefaultLogs returns logs, or the default event log if logs is empty.
func DefaultLogs(logs []string) ([]string, error) {
	if len(logs) > 0 {
		return logs, nil
	}
	if _, err := os.Stat("events.log"); err != nil {
		return nil, errors.New("no event log: give its name, because there is no events.log in this folder")
	}
	return []string{"events.log"}, nil
}
