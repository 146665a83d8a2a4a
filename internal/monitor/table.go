package monitor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/ctworker/ctworker/internal/digest"
	"github.com/ctworker/ctworker/internal/fleet"
	"github.com/ctworker/ctworker/internal/units"
)

// column is a column of the table of workers.
type column struct {
	name  string
	width int
	// optional columns are left out of a narrow table, those with the highest number first. A column with
	// the number 0 always remains.
	optional int
	left     bool // aligned to the left
	value    func(s *screen, w *fleet.Worker) string
}

const (
	minNameWidth, maxNameWidth = 22, 36
	gap                        = 1
)

// columns returns the columns after the name.
func columns() []column {
	of := func(f func(d *digest.Digest) string) func(*screen, *fleet.Worker) string {
		return func(_ *screen, w *fleet.Worker) string {
			if w.Digest == nil {
				return "-"
			}
			return f(w.Digest)
		}
	}
	latency := func(seconds float64) string {
		if seconds <= 0 {
			return "-"
		}
		return units.Latency(time.Duration(min(seconds, 1e9) * float64(time.Second)))
	}
	return []column{
		{"CONDITION", 10, 0, true, func(_ *screen, w *fleet.Worker) string { return w.Condition.String() }},
		{"RUN/SLOTS", 9, 4, false, of(func(d *digest.Digest) string { return fmt.Sprintf("%d/%d", d.Running, d.Slots) })},
		{"DONE", 8, 0, false, of(func(d *digest.Digest) string { return fmt.Sprint(d.Done()) })},
		{"FAILED", 7, 0, false, of(func(d *digest.Digest) string { return fmt.Sprint(d.NotCompleted()) })},
		{"RATE", 6, 2, false, of(func(d *digest.Digest) string { return units.Rate(d.Rate) })},
		{"P50", 7, 6, false, of(func(d *digest.Digest) string { return latency(d.P50) })},
		{"P99", 7, 5, false, of(func(d *digest.Digest) string { return latency(d.P99) })},
		{"CPU", 5, 3, false, of(func(d *digest.Digest) string {
			if d.CPU < 0 {
				return "-"
			}
			return fmt.Sprintf("%.0f %%", min(d.CPU, 100))
		})},
		{"MEM", 5, 7, false, of(func(d *digest.Digest) string {
			if d.MemoryTotal <= 0 {
				return "-"
			}
			return fmt.Sprintf("%.0f %%", min(max(100*float64(d.MemoryUsed)/float64(d.MemoryTotal), 0), 100))
		})},
		{"SEEN", 6, 1, false, func(s *screen, w *fleet.Worker) string { return s.ago(w.LastSeen) }},
		{"HOST", 16, 8, true, func(_ *screen, w *fleet.Worker) string { return w.Host }},
		{"ZONE", 16, 9, true, func(_ *screen, w *fleet.Worker) string { return w.Zone }},
		{"VERSION", 14, 10, true, of(func(d *digest.Digest) string { return d.Version })},
	}
}

// fitting returns the columns that fit into a width, and the width of the column with the names.
func fitting(width int) (all []column, nameWidth int) {
	all = columns()
	for {
		used := 0
		drop := -1
		for i, c := range all {
			used += c.width + gap
			if c.optional > 0 && (drop < 0 || c.optional > all[drop].optional) {
				drop = i
			}
		}
		if nameWidth = width - used; nameWidth >= minNameWidth || drop < 0 {
			return all, min(max(nameWidth, minNameWidth), maxNameWidth)
		}
		all = slices.Delete(all, drop, drop+1)
	}
}

// workers draws the table of workers.
func (s *screen) workers() {
	const minLines = 3 // an empty line, the heading and one worker
	if s.left() < minLines {
		return
	}
	selected := s.o.selected(s.v)
	cols, nameWidth := fitting(s.width)
	s.add("")
	heading := cell(s.tableName(len(selected)), nameWidth, true)
	for _, c := range cols {
		heading += strings.Repeat(" ", gap) + cell(c.name, c.width, c.left)
	}
	s.add(s.style(reverse, pad(heading, s.width)))
	room := s.left()
	first := min(s.o.Offset, max(len(selected)-room, 0))
	rows := selected[first:]
	if len(rows) > room {
		rows = rows[:room]
	}
	for _, w := range rows {
		line := cell(s.clean(w.ShortName()), nameWidth, true)
		for _, c := range cols {
			line += strings.Repeat(" ", gap) + cell(s.clean(c.value(s, &w)), c.width, c.left)
		}
		line = strings.TrimRight(line, " ")
		if w.Condition == fleet.Silent {
			line = s.style(yellow, line)
		}
		s.add(line)
	}
}

// tableName returns the heading of the first column.
func (s *screen) tableName(selected int) string {
	switch {
	case s.o.Filter != "":
		return fmt.Sprintf("WORKER (%d of %d)", selected, len(s.v.Workers))
	case s.o.Sort != ByCondition:
		return "WORKER by " + s.o.Sort.String()
	}
	return "WORKER"
}

// cell returns a text with exactly width columns.
func cell(text string, width int, left bool) string {
	text = ansi.Truncate(text, width, "…")
	fill := strings.Repeat(" ", max(width-ansi.StringWidth(text), 0))
	if left {
		return text + fill
	}
	return fill + text
}
