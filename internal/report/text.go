package report

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/units"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

const (
	textList    = 10 // the length of lists
	textBars    = 16 // the rows of a histogram
	textWidth   = 40 // the length of the longest bar
	textMessage = 90
	timeFormat  = "2006-01-02 15:04:05"
)

// WriteText writes the report as plain text. The caller must escape control characters.
func (r *Report) WriteText(to io.Writer) error {
	w := bufio.NewWriter(to)
	p := &textPage{w}
	p.summary(r)
	if r.Summary.Attempts > 0 {
		p.overTime(r)
		p.distribution("Run time of the attempts", r.Duration, formatSeconds)
		p.distribution("Peak memory of the attempts", r.Memory, formatBytes)
		p.distribution("CPU time of the attempts", r.CPU, formatSeconds)
		p.failures(r)
		p.attempts("Slowest attempts", r.Slowest)
		if r.Memory != nil {
			p.attempts("Attempts with the most memory", r.Largest)
		}
	}
	p.spot(r)
	p.hosts(r)
	p.cost(r)
	p.problems(r)
	if len(r.Notes) > 0 {
		p.heading("Notes")
		for _, n := range r.Notes {
			p.printf("- %s\n", n)
		}
	}
	return w.Flush()
}

type textPage struct{ w *bufio.Writer }

func (p *textPage) printf(format string, args ...any) { _, _ = fmt.Fprintf(p.w, format, args...) }

func (p *textPage) heading(text string) { p.printf("\n%s\n\n", text) }

// table prints rows of cells in aligned columns. Columns are aligned to the left.
func (p *textPage) table(rows [][]string) {
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	for _, cells := range rows {
		_, _ = fmt.Fprintf(t, "  %s\n", strings.Join(cells, "\t"))
	}
	_ = t.Flush() // writes to a bufio.Writer, which keeps the error
}

func (p *textPage) summary(r *Report) {
	for _, f := range r.facts() {
		p.printf("%-12s %s\n", f.Name, f.Value)
		if f.Detail != "" {
			p.printf("%-12s %s\n", "", f.Detail)
		}
	}
}

func (p *textPage) overTime(r *Report) {
	if len(r.Time.Buckets) == 0 {
		return
	}
	p.heading("Attempts over time")
	step := (len(r.Time.Buckets) + textBars - 1) / textBars
	type line struct {
		start time.Time
		sum   Outcomes
		busy  float64
	}
	var lines []line
	highest := int64(1)
	at := 0
	for _, g := range r.Time.segments {
		for i := at; i < at+int(g.to-g.from); i += step {
			part := r.Time.Buckets[i:min(i+step, at+int(g.to-g.from))]
			l := line{start: part[0].Start}
			for _, b := range part {
				l.sum.add(b.Outcomes)
				l.busy += b.BusySlots / float64(len(part))
			}
			highest = max(highest, l.sum.total())
			lines = append(lines, l)
		}
		at += int(g.to - g.from)
	}
	rows := [][]string{{"from (UTC)", "ended", "", "failed", "retried", "busy slots"}}
	for _, l := range lines {
		rows = append(rows, []string{
			r.bucketTime(l.start), count(l.sum.total()), textBar(l.sum.total(), highest),
			count(l.sum.failed()), count(l.sum.Retried), strconv.FormatFloat(l.busy, 'f', 1, 64),
		})
	}
	p.table(rows)
}

func (o *Outcomes) add(n Outcomes) {
	o.Completed += n.Completed
	o.Exception += n.Exception
	o.TimedOut += n.TimedOut
	o.Exited += n.Exited
	o.Retried += n.Retried
}

func (o Outcomes) failed() int64 { return o.Exception + o.TimedOut + o.Exited }
func (o Outcomes) total() int64  { return o.Completed + o.failed() + o.Retried }

// textBar returns a bar of full and partial blocks.
func textBar(n, highest int64) string {
	eighths := int(float64(n) / float64(highest) * textWidth * 8)
	if n > 0 && eighths == 0 {
		eighths = 1
	}
	bar := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		bar += string([]rune(" ▏▎▍▌▋▊▉")[rest])
	}
	return bar + strings.Repeat(" ", textWidth-utf8.RuneCountInString(bar))
}

func (p *textPage) distribution(title string, d *Distribution, format func(float64) string) {
	if d == nil {
		return
	}
	p.heading(title)
	p.printf("  p50 %s, p90 %s, p99 %s, mean %s, min %s, max %s\n\n", format(d.P50), format(d.P90), format(d.P99), format(d.Mean), format(d.Min), format(d.Max))
	step := (len(d.Bars) + textBars - 1) / textBars
	highest := int64(1)
	var bars []Bar
	for i := 0; i < len(d.Bars); i += step {
		part := d.Bars[i:min(i+step, len(d.Bars))]
		bar := Bar{From: part[0].From, To: part[len(part)-1].To}
		for _, b := range part {
			bar.Count += b.Count
		}
		highest = max(highest, bar.Count)
		bars = append(bars, bar)
	}
	var rows [][]string
	for _, b := range bars {
		rows = append(rows, []string{"< " + format(b.To), textBar(b.Count, highest), count(b.Count)})
	}
	p.table(rows)
}

func (p *textPage) failures(r *Report) {
	if len(r.Failures) == 0 {
		return
	}
	p.heading("Failed attempts by message")
	for i, f := range r.Failures {
		if i == textList {
			p.printf("  … and %s; to list all failed tasks: %s\n", units.Count(int64(len(r.Failures)-i), "more group"), r.failedCommand(""))
			break
		}
		p.printf("  %s × %s: %s\n", count(f.Count), f.Outcome, cut(f.Message, textMessage))
		details := "tasks " + strings.Join(f.TaskIDs, ", ")
		if f.Retried > 0 {
			details = count(f.Retried) + " retried; " + details
		}
		p.printf("      %s\n", details)
	}
	if r.OtherFailures > 0 {
		p.printf("  %s failed attempts have other messages\n", count(r.OtherFailures))
	}
	p.printf("\n  list them:       %s\n  run them again:  repeat the command of the run with --rerun failed\n", r.failedCommand(""))
}

// cut returns the beginning of text, in one line.
func cut(text string, n int) string {
	if len(text) > n {
		text = utf8cut.Start(text, n) + "…"
	}
	return units.OneLine(text)
}

func (p *textPage) attempts(title string, all []Attempt) {
	p.heading(title)
	rows := [][]string{{"run time", "memory", "CPU", "outcome", "attempt", "ended (UTC)", "host", "task"}}
	for _, a := range all[:min(len(all), textList)] {
		rows = append(rows, []string{
			formatSeconds(a.Seconds), formatBytes(float64(a.MemoryBytes)), formatSeconds(a.CPUSeconds), a.outcome(),
			strconv.Itoa(a.Attempt), formatTime(a.End), a.Host, a.TaskID,
		})
	}
	p.table(rows)
}

func (a Attempt) outcome() string {
	if a.Retry {
		return a.Outcome + ", retried"
	}
	return a.Outcome
}

func (p *textPage) spot(r *Report) {
	if len(r.Spot) == 0 {
		return
	}
	p.heading("Termination notices (the last two columns are estimates)")
	rows := [][]string{{"time (UTC)", "host", "kind", "ended after it", "slots cut off", "lost slot time"}}
	for _, n := range r.Spot {
		rows = append(rows, []string{
			formatTime(n.Time), n.Host, n.kind(), count(n.FinishedAfter), "≤ " + count(n.SlotsCut), "≤ " + formatSeconds(n.LostSeconds),
		})
	}
	p.table(rows)
}

func (n Notice) kind() string {
	if n.Action != "" && n.Kind != "" {
		return n.Kind + " (" + n.Action + ")"
	}
	return n.Kind + n.Action
}

func (p *textPage) hosts(r *Report) {
	if len(r.Hosts) == 0 {
		return
	}
	p.heading("Hosts")
	rows := [][]string{{"host", "slots", "ended", "failed", "retried", "time", "slots busy"}}
	for _, h := range r.Hosts[:min(len(r.Hosts), 2*textList)] {
		rows = append(rows, []string{
			h.Name, count(h.Slots), count(h.Attempts), count(h.Failed), count(h.Retried), formatSeconds(h.MachineSeconds), percent(h.BusySeconds, h.CapacitySeconds),
		})
	}
	p.table(rows)
	if more := int64(len(r.Hosts)-2*textList) + r.OtherHosts; more > 0 {
		p.printf("  … and %s\n", units.Count(more, "more host"))
	}
}

func (p *textPage) cost(r *Report) {
	if r.Cost == nil {
		return
	}
	p.heading(fmt.Sprintf("Cost at %s per machine and hour (estimate)", money(r.Cost.PricePerHour)))
	var rows [][]string
	for _, part := range r.Cost.parts() {
		rows = append(rows, []string{part.Name, money(part.Amount), percent(part.Amount, r.Cost.Total), part.About})
	}
	p.table(append(rows, []string{"total", money(r.Cost.Total), "", ""}))
}

func (p *textPage) problems(r *Report) {
	if len(r.Problems) == 0 {
		return
	}
	p.heading("Errors of the run")
	for _, e := range r.Problems {
		p.printf("  %s  %s  %s: %s\n", formatTime(e.Time), e.Host, e.Type, cut(e.Message, 2*textMessage))
	}
	if more := r.Summary.FatalExceptions + r.Summary.OtherExceptions - int64(len(r.Problems)); more > 0 {
		p.printf("  … and %d more\n", more)
	}
}
