package results

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/journal"
)

// Format is a format of a table.
type Format string

// The formats.
const (
	CSV       Format = "csv"
	JSONLines Format = "jsonl"
	Parquet   Format = "parquet"
)

// Formats are all formats.
var Formats = []Format{CSV, JSONLines, Parquet}

// Stats describe an exported table.
type Stats struct {
	Rows int64
	// Columns is the number of columns; 0 for JSON lines.
	Columns int
	// Unfinished is the number of tasks without a row, because they have no final event. Repeated is
	// the number of tasks with several final events that do not replace each other. Both are 0 if all attempts are exported.
	Unfinished, Repeated int64
	// Misfits is the number of values that are missing from a Parquet file, because the field of the event
	// has another type than in the events of ctworker.
	Misfits int64
}

// ErrNotALog is the error for a file that has lines, but no event.
var ErrNotALog = errors.New("contains no event, so it is not an event log")

// errChanged is the error for a log that changed between two passes.
var errChanged = errors.New("an event log changed while it was read; a run may append to it, but another program must not change it; repeat the export")

// A rowWriter writes rows in a format.
type rowWriter interface {
	// write writes a row. It does not retain the row.
	write(*row) error
	// close writes what is buffered, and the end of the table.
	close() error
}

// Export writes one row for each task to w; or one for each task event if allAttempts is true. If
// ctx is done, Export returns the cause.
func (l *Logs) Export(ctx context.Context, w io.Writer, format Format, allAttempts bool) (Stats, error) {
	chosen, lines, err := l.choose(ctx, allAttempts)
	if err != nil {
		return Stats{}, err
	}
	stats := Stats{Unfinished: chosen.unfinished, Repeated: chosen.repeated}
	var out rowWriter
	if format == JSONLines {
		out = newJSONWriter(w)
	} else {
		t, err := l.columns(ctx, chosen, lines)
		if err != nil {
			return Stats{}, err
		}
		stats.Columns = len(t.columns)
		if format == CSV {
			out, err = newCSVWriter(w, t)
		} else {
			out, err = newParquetWriter(w, t, &stats.Misfits)
		}
		if err != nil {
			return Stats{}, err
		}
	}
	err = l.rows(ctx, chosen, lines, func(r *row) error {
		stats.Rows++
		return out.write(r)
	}, l.damaged)
	if err != nil {
		return Stats{}, err
	}
	return stats, out.close()
}

// choose reads all lines, and returns the selection of those that are exported, and the number of lines.
func (l *Logs) choose(ctx context.Context, allAttempts bool) (chosen *selection, lines int64, err error) {
	clear(l.Damage)
	s := newSelector(maxRecords)
	defer func() { err = errors.Join(err, s.close()) }()
	lines, err = l.each(ctx, func(n line) error {
		e, isTask, err := journal.Parse(n.text)
		if err != nil {
			l.damaged(n)
			return nil
		}
		l.Damage[n.log].Events++
		if !isTask || allAttempts {
			return nil
		}
		return s.add(e.TaskID, n.ordinal, effectOf(e))
	})
	if err != nil {
		return nil, 0, err
	}
	for i := range l.Damage {
		if l.Damage[i].NotALog() {
			return nil, 0, fmt.Errorf("%s: %w", l.logs[i].name, ErrNotALog)
		}
	}
	if allAttempts {
		return &selection{}, lines, nil
	}
	chosen, err = s.finish(lines)
	return chosen, lines, err
}

func (l *Logs) damaged(n line) { l.Damage[n.log].Add(n.number, n.complete) }

func effectOf(e journal.Event) effect {
	switch {
	case e.Rerun && e.Retry:
		return discards
	case e.Rerun:
		return replaces
	case e.Retry:
		return requestsRetry
	}
	return endsTask
}

// columns returns the table for the chosen lines.
func (l *Logs) columns(ctx context.Context, chosen *selection, lines int64) (*table, error) {
	t := newTable()
	if err := l.rows(ctx, chosen, lines, t.learn, func(line) {}); err != nil {
		return nil, err
	}
	t.finish()
	return t, nil
}

// rows calls f for the row of each chosen line. For a chosen line that is damaged in a way that
// choose has not detected, it calls damaged.
func (l *Logs) rows(ctx context.Context, chosen *selection, lines int64, f func(*row) error, damaged func(line)) error {
	var p rowParser
	count, err := l.each(ctx, func(n line) error {
		if !chosen.has(n.ordinal) {
			return nil
		}
		if chosen.bits == nil {
			if _, isTask, err := journal.Parse(n.text); err != nil || !isTask {
				return nil
			}
		}
		if !utf8.Valid(n.text) { // another program has changed the log; readers of the table require UTF-8
			n.text = bytes.ToValidUTF8(n.text, []byte("\uFFFD"))
		}
		r, err := p.parse(n.text)
		if err != nil || r.event[taskIDColumn] == nil || r.event[outcomeColumn] == nil {
			damaged(n)
			return nil
		}
		return f(r)
	})
	if err == nil && count != lines {
		err = errChanged
	}
	return err
}
