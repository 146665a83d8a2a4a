package report

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"
)

var outcomeLegend = []legendItem{{"c0", "completed"}, {"c1", "exception"}, {"c2", "timed out"}, {"c3", "exited"}, {"c4", "to be retried"}}

func (o Outcomes) list() [classes]int64 {
	return [classes]int64{o.Completed, o.Exception, o.TimedOut, o.Exited, o.Retried}
}

// outcomeText returns the numbers that are not 0.
func (o Outcomes) outcomeText() string {
	var parts []string
	for i, n := range o.list() {
		if n > 0 {
			parts = append(parts, count(n)+" "+outcomeLegend[i].Text)
		}
	}
	if len(parts) == 0 {
		return "none ended"
	}
	return strings.Join(parts, ", ")
}

// timeChart draws one column for each bucket. parts returns the parts of the column of a bucket, and a text
// about it.
func (r *Report) timeChart(a *timeAxis, c *chart, format func(float64) string, parts func(Bucket) ([]stack, string)) *chart {
	all := make([]column, 0, len(r.Time.Buckets))
	for _, b := range r.Time.Buckets {
		from := b.Start.UnixMicro()
		x := a.x(from)
		stacks, text := parts(b)
		all = append(all, column{x, a.x(from+r.Time.width-1) - x, stacks, r.bucketTime(b.Start) + " UTC: " + text})
	}
	c.columns(all, format)
	var s svg
	a.pauses(&s, plotHeight)
	c.Shapes += s.html()
	c.Below = a.labels()
	c.About += a.about()
	return c
}

func (r *Report) bucketTime(t time.Time) string {
	if r.Time.BucketSeconds < 1 {
		return t.Format("2006-01-02 15:04:05.00")
	}
	return t.Format(timeFormat)
}

// timeCharts returns the charts with a time axis.
func (r *Report) timeCharts() (all []*chart) {
	a := newTimeAxis(&r.Time)
	if len(a.segments) == 0 {
		return nil
	}
	bucket := widthText(r.Time.BucketSeconds)
	perUnit, unit := 1.0, "second"
	switch {
	case r.Summary.TasksPerSecond < 1.0/60:
		perUnit, unit = 3600, "hour"
	case r.Summary.TasksPerSecond < 1:
		perUnit, unit = 60, "minute"
	}
	ratio := perUnit / r.Time.BucketSeconds
	all = append(all, r.timeChart(a, &chart{
		ID: "throughput", Title: "Throughput", About: fmt.Sprintf("attempts that ended per %s; each column is %s", unit, bucket), Legend: outcomeLegend,
		Label: fmt.Sprintf("Attempts that ended per %s over time, by outcome. On average %s.", unit, rate(r.Summary.TasksPerSecond)),
	}, compact, func(b Bucket) (parts []stack, text string) {
		for i, n := range b.list() {
			parts = append(parts, stack{float64(n) * ratio, "c" + strconv.Itoa(i)})
		}
		return parts, fmt.Sprintf("%s per %s; %s", significant(float64(b.total())*ratio), unit, b.outcomeText())
	}))
	if r.Summary.AttemptsBy.total() > r.Summary.AttemptsBy.Completed {
		all = append(all, r.timeChart(a, &chart{
			ID: "failed", Title: "Failed and retried attempts", About: "attempts without the completed ones, per column of " + bucket, Legend: outcomeLegend[1:],
			Label: fmt.Sprintf("Failed attempts over time, by outcome. In all, %s.", r.Summary.AttemptsBy.outcomeText()),
		}, compact, func(b Bucket) (parts []stack, text string) {
			for i, n := range b.list() {
				if i > 0 {
					parts = append(parts, stack{float64(n), "c" + strconv.Itoa(i)})
				}
			}
			b.Completed = 0
			if b.total() == 0 {
				return parts, "no failure"
			}
			return parts, b.outcomeText()
		}))
	}
	all = append(all, r.timeChart(a, &chart{
		ID: "slots", Title: "Busy slots", About: "average per column; the light part is idle (estimate)", Legend: []legendItem{{"c0", "busy"}, {"cidle", "idle"}},
		Label: fmt.Sprintf("Busy and idle slots over time. Busy on average: %s.", percent(r.Summary.BusySeconds, r.Summary.CapacitySeconds)),
	}, compact, func(b Bucket) ([]stack, string) {
		return []stack{{b.BusySlots, "c0"}, {max(b.Slots-b.BusySlots, 0), "cidle"}}, fmt.Sprintf("%.1f of %.1f slots busy", b.BusySlots, b.Slots)
	}))
	return append(all, r.timelineChart(a))
}

const (
	hostBand = 20.0
	// maxBands is the maximum number of hosts whose names are above their rows.
	maxBands = 24
	// busyLevels is the number of shades of a row that has bins.
	busyLevels = 6
)

// timelineChart draws when each slot was busy.
func (r *Report) timelineChart(a *timeAxis) *chart {
	t := &r.timeline
	c := &chart{
		ID: "timeline", Title: "Slot timeline", Zoom: a.json(), Below: a.labels(), Legend: outcomeLegend,
		Label: "When each slot was busy. Use the buttons, or plus, minus and the arrow keys, to zoom and to move.",
	}
	bands := t.hosts() <= maxBands && t.rows[0].host != ""
	height := t.rowHeight()
	var shapes, over, left svg
	y := 2.0
	for i, row := range t.rows {
		label := row.label
		if row.host != "" {
			label = row.host + ", " + row.label
		}
		first, last := t.isFirst(i), i+1 == len(t.rows) || t.isFirst(i+1)
		if bands && first {
			over.label(0.3, y+14, "start", "host", row.host)
			y += hostBand
		}
		narrow := bands && (first || last && !t.isFirst(i-1)) || !bands && i%2 == 0
		if height >= 12 || narrow {
			left.label(100, y+height-2, "end", "tick row", row.shortLabel(bands))
		}
		shapes.rect(0, y, plotWidth, height-1, "empty", "")
		shapes.printf(`<g data-l="%s">`, template.HTMLEscapeString(label))
		if t.exact {
			row.drawAttempts(&shapes, a, y, height-1)
		} else {
			row.drawBins(&shapes, a, &r.Time, y, height-1)
		}
		shapes.b.WriteString("</g>")
		y += height
	}
	c.Height = int(y) + 2
	a.pauses(&shapes, y)
	c.Shapes, c.Over, c.Left = shapes.html(), over.html(), left.html()
	t.describe(c)
	c.About += a.about()
	return c
}

// isFirst reports whether the row at i is the first one of a host.
func (t *timeline) isFirst(i int) bool { return i <= 0 || t.rows[i].host != t.rows[i-1].host }

func (t *timeline) hosts() (n int) {
	for i := range t.rows {
		if t.isFirst(i) {
			n++
		}
	}
	return n
}

func (t *timeline) rowHeight() float64 {
	switch {
	case len(t.rows) > 64:
		return 6
	case len(t.rows) > 32:
		return 8
	}
	return 12
}

// describe sets the legend and the description of the chart.
func (t *timeline) describe(c *chart) {
	switch {
	case t.exact:
		c.About = "each bar is an attempt; its start is its end minus its run time"
		return
	case t.combined > 1:
		c.About = fmt.Sprintf("each row is up to %s; the stronger the color, the busier; marks at the bottom show failures", plural(t.combined, "slot"))
	default:
		c.About = "the stronger the color, the busier; marks at the bottom show failures"
	}
	c.Legend = []legendItem{{"b3", "half busy"}, {"b6", "busy"}, {"f1", "a few failures"}, {"f3", "half or more failed"}}
}

// shortLabel returns the label left of the row.
func (row *timelineRow) shortLabel(bands bool) string {
	if !bands && row.host != "" {
		return cut(row.host, 9)
	}
	return cut(strings.TrimPrefix(strings.TrimPrefix(row.label, "slots "), "workers "), 12)
}

func (row *timelineRow) drawAttempts(s *svg, a *timeAxis, y, height float64) {
	for _, at := range row.attempts {
		x := a.x(at.start)
		class := "c" + strconv.Itoa(int(at.class))
		s.rect(x, y, max(a.x(at.end)-x, 0.05), height, class, fmt.Sprintf("%s: %s, %s", at.id, outcomeLegend[at.class].Text, formatSeconds(seconds(at.end-at.start))))
	}
}

// drawBins draws one path for each shade, because a page with one element per bin would be too large.
func (row *timelineRow) drawBins(s *svg, a *timeAxis, t *TimeSeries, y, height float64) {
	var busy [busyLevels + 1]strings.Builder
	var bad [4]strings.Builder
	for i, bins := range row.bins {
		g := a.segments[i]
		width := (g.x1 - g.x0) / float64(len(bins))
		runs(bins, func(b bin) int { return busyLevel(b, row.slots*t.width) }, func(level, from, to int) {
			box(&busy[level], g.x0+float64(from)*width, y, float64(to-from)*width, height)
		})
		runs(bins, failureLevel, func(level, from, to int) {
			box(&bad[level], g.x0+float64(from)*width, y+height*0.6, float64(to-from)*width, height*0.4)
		})
	}
	for level := 1; level <= busyLevels; level++ {
		if busy[level].Len() > 0 {
			s.printf(`<path class="b%d" data-v="%d to %d %% busy" d="%s"/>`, level, (level-1)*100/busyLevels, level*100/busyLevels, busy[level].String())
		}
	}
	for level, about := range []string{"", "less than 10 % of the attempts failed", "less than half of the attempts failed", "at least half of the attempts failed"} {
		if level > 0 && bad[level].Len() > 0 {
			s.printf(`<path class="f%d" data-v="%s" d="%s"/>`, level, about, bad[level].String())
		}
	}
}

// runs calls f for each run of bins with the same level that is not 0.
func runs(bins []bin, levelOf func(bin) int, f func(level, from, to int)) {
	for i := 0; i < len(bins); {
		level, from := levelOf(bins[i]), i
		for i < len(bins) && levelOf(bins[i]) == level {
			i++
		}
		if level > 0 {
			f(level, from, i)
		}
	}
}

// box adds a rectangle to the data of a path.
func box(to *strings.Builder, x, y, w, h float64) {
	fmt.Fprintf(to, "M%s %sh%sv%sh-%sz", coordinate(x), coordinate(y), coordinate(w), coordinate(h), coordinate(w))
}

// busyLevel returns the shade of a bin, from 0 to busyLevels.
func busyLevel(b bin, capacity int64) int {
	if b.busy <= 0 {
		return 0
	}
	return min(1+int(float64(b.busy)/float64(capacity)*busyLevels*0.999), busyLevels)
}

// failureLevel returns 0 if no attempt failed, and otherwise 1 to 3.
func failureLevel(b bin) int {
	total, bad := int64(0), b.n[exception]+b.n[timedOut]+b.n[exited]
	for _, n := range b.n {
		total += n
	}
	switch {
	case bad == 0:
		return 0
	case bad*10 < total:
		return 1
	case bad*2 < total:
		return 2
	}
	return 3
}
