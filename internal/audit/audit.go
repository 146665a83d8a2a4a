// Package audit compares a task file with event logs. It finds each task that does not have exactly one
// final event for each of its entries in the task file.
//
// The memory does not depend on the number of tasks. Each entry of the file and each final event becomes
// a record of fixed size that contains the hash of the task ID. The records are sorted in temporary
// files, so that the records of an ID are next to each other.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"os"

	"github.com/ctworker/ctworker/internal/journal"
)

// Problem is what is wrong with the events of a task.
type Problem string

// The problems.
const (
	// Missing: a task has fewer final events than entries in the task file.
	Missing Problem = "missing"
	// Repeated: a task has more final events than entries in the task file, and all these events are of
	// the same kind.
	Repeated Problem = "repeated"
	// Contradictory: like Repeated, but the events are of different kinds.
	Contradictory Problem = "contradictory"
	// Unknown: a task has final events, but is not in the task file.
	Unknown Problem = "unknown"
)

// Problems are all problems, in the order of a report.
var Problems = []Problem{Missing, Repeated, Contradictory, Unknown} //nolint:gochecknoglobals // a constant

// Finding is a task with a problem.
type Finding struct {
	Problem Problem `json:"problem"`
	TaskID  string  `json:"task_id"`
	// Entries is the number of entries of the task in the task file, and Finals is the number of its final
	// events. An event that replaces an earlier final event does not count.
	Entries int64 `json:"entries"`
	Finals  int64 `json:"final_events"`
	// Attempts are the attempt numbers of the final events, at most 10.
	Attempts []int `json:"attempts,omitempty"`
}

// Report is the result of Run.
type Report struct {
	// Tasks is the number of entries of the task file, and Events the number of task events.
	Tasks, Events int64
	// Kinds are the numbers of tasks by the kind of their final event.
	Kinds map[journal.Kind]int64
	// Counts are the numbers of tasks by problem. It is empty if nothing was found.
	Counts map[Problem]int64
	// Findings are the tasks with a problem, at most MaxFindings.
	Findings []*Finding
	// Damage describes damaged lines by the name of the log.
	Damage map[string]journal.Damage
}

// MaxFindings limits Report.Findings.
const MaxFindings = 1_000_000

// Options are the input of Run.
type Options struct {
	// Tasks calls yield with the ID of each entry of the task file. It returns the error of yield. Run
	// calls it once or twice.
	Tasks func(yield func(id string) error) error
	// Logs are the names of the event logs, in the order of their runs.
	Logs []string
	// Dir is the directory for temporary files. A file is removed from Dir as soon as it is open.
	// Defaults to os.TempDir.
	Dir string
}

// Run compares the task file with the event logs.
func Run(ctx context.Context, opts Options) (*Report, error) {
	a := &auditor{
		opts: opts, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		report: &Report{Kinds: map[journal.Kind]int64{}, Counts: map[Problem]int64{}, Damage: map[string]journal.Damage{}},
		found:  map[hash]*Finding{},
	}
	s := newSorter(opts.Dir)
	defer s.close()
	if err := a.collect(ctx, s); err != nil {
		return nil, err
	}
	if err := s.groups(a.check); err != nil {
		return nil, fmt.Errorf("sort task IDs: %w", err)
	}
	if err := a.name(ctx); err != nil {
		return nil, err
	}
	return a.report, nil
}

type auditor struct {
	opts   Options
	seeds  [2]maphash.Seed
	report *Report
	found  map[hash]*Finding
}

func (a *auditor) hash(id []byte) hash {
	return hash{maphash.Bytes(a.seeds[0], id), maphash.Bytes(a.seeds[1], id)}
}

// collect adds a record for each entry of the task file and for each final event.
func (a *auditor) collect(ctx context.Context, s *sorter) error {
	err := a.opts.Tasks(func(id string) error {
		a.report.Tasks++
		return s.add(a.hash([]byte(id)), entryRecord)
	})
	if err != nil {
		return err
	}
	return a.eachLog(func(path string, log io.Reader) error {
		damage, err := readEvents(ctx, log, func(e journal.Event) error {
			a.report.Events++
			if e.Retry {
				return nil
			}
			what := recordKind(e.Kind)
			if e.Rerun {
				what |= rerunRecord
			}
			return s.add(a.hash(e.TaskID), what)
		})
		a.report.Damage[path] = damage
		return err
	})
}

// eachLog calls f for each log.
func (a *auditor) eachLog(f func(path string, log io.Reader) error) error {
	for _, path := range a.opts.Logs {
		log, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("event log: %w", err)
		}
		err = f(path, log)
		_ = log.Close()
		if err != nil {
			return fmt.Errorf("event log %s: %w", path, err)
		}
	}
	return nil
}

func readEvents(ctx context.Context, log io.Reader, f func(journal.Event) error) (journal.Damage, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	damage, err := journal.Events(ctx, log, func(e journal.Event) {
		if err := f(e); err != nil {
			cancel(err)
		}
	})
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return damage, err
}

// check checks the records of one task.
func (a *auditor) check(h hash, records []recordKind) {
	var entries, finals, reruns int64
	var kinds []recordKind
	for _, r := range records {
		switch {
		case r == entryRecord:
			entries++
		case r&rerunRecord != 0:
			reruns++
			kinds = replaced(kinds, r&^rerunRecord)
		default:
			finals++
			kinds = append(kinds, r)
		}
	}
	for _, k := range kinds {
		a.report.Kinds[journal.Kind(k)]++
	}
	effective := max(finals, min(reruns, entries)) // the log with the replaced event may be missing in Logs
	problem := Problem("")
	switch {
	case entries == 0:
		problem = Unknown
	case effective < entries:
		problem = Missing
	case effective > entries && mixed(kinds):
		problem = Contradictory
	case effective > entries:
		problem = Repeated
	default:
		return
	}
	a.report.Counts[problem]++
	if len(a.report.Findings) < MaxFindings {
		f := &Finding{Problem: problem, Entries: entries, Finals: effective}
		a.report.Findings = append(a.report.Findings, f)
		a.found[h] = f
	}
}

// replaced returns kinds after a rerun whose result is k. k replaces the last kind that is not Completed.
// If all are Completed, k replaces the first.
func replaced(kinds []recordKind, k recordKind) []recordKind {
	for i := len(kinds) - 1; i >= 0; i-- {
		if kinds[i] != recordKind(journal.Completed) || i == 0 {
			kinds[i] = k
			return kinds
		}
	}
	return append(kinds, k)
}

func mixed(kinds []recordKind) bool {
	for _, k := range kinds {
		if k != kinds[0] {
			return true
		}
	}
	return false
}

// maxAttempts is the maximum length of Finding.Attempts.
const maxAttempts = 10

// name reads the task file and the logs again, and sets the task IDs and the attempts of the findings.
func (a *auditor) name(ctx context.Context) error {
	if len(a.found) == 0 {
		return nil
	}
	err := a.opts.Tasks(func(id string) error {
		if f := a.found[a.hash([]byte(id))]; f != nil {
			f.TaskID = id
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.eachLog(func(_ string, log io.Reader) error {
		return journal.Lines(ctx, log, func(_ int64, line []byte, _ bool) {
			e, ok, err := journal.Parse(line)
			if err != nil || !ok || e.Retry {
				return
			}
			if f := a.found[a.hash(e.TaskID)]; f != nil {
				f.add(string(e.TaskID), line)
			}
		})
	})
}

// add adds a final event, which is the JSON object in line.
func (f *Finding) add(id string, line []byte) {
	f.TaskID = id
	var fields struct {
		Attempt int `json:"attempt"` // journal.Parse does not always set it
	}
	_ = json.Unmarshal(line, &fields) // journal.Parse has checked the line
	if len(f.Attempts) < maxAttempts {
		f.Attempts = append(f.Attempts, max(fields.Attempt, 1))
	}
}
