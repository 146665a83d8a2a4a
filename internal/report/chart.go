package report

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// An svg builds the shapes and the texts of a chart. All texts are escaped; the classes are constants.
type svg struct{ b strings.Builder }

func (s *svg) printf(format string, args ...any) { fmt.Fprintf(&s.b, format, args...) }

// rect adds a rectangle. If tip is not empty, it is the text of the tooltip.
func (s *svg) rect(x, y, w, h float64, class, tip string) {
	s.printf(`<rect x="%s" y="%s" width="%s" height="%s" class="%s"`, coordinate(x), coordinate(y), coordinate(w), coordinate(h), class)
	if tip != "" {
		s.printf(` data-t="%s"`, template.HTMLEscapeString(tip))
	}
	s.b.WriteString("/>")
}

// label adds a text. x is in percent of the width, y in pixels.
func (s *svg) label(x, y float64, anchor, class, text string) {
	s.printf(`<text x="%s%%" y="%s" text-anchor="%s" class="%s">%s</text>`, coordinate(x), coordinate(y), anchor, class, template.HTMLEscapeString(text))
}

func (s *svg) line(x1, y1, x2, y2 float64, class string) {
	s.printf(`<line x1="%s" y1="%s" x2="%s" y2="%s" class="%s"/>`, coordinate(x1), coordinate(y1), coordinate(x2), coordinate(y2), class)
}

func (s *svg) html() template.HTML {
	return template.HTML(s.b.String()) //nolint:gosec // rect and label escape all texts
}

func coordinate(v float64) string {
	return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
}

// A chart is a chart in the page. Its shapes are stretched to the width of the page, its labels are not.
type chart struct {
	ID, Title, About string
	Label            string // for screen readers
	Height           int    // in pixels
	Shapes           template.HTML
	Over             template.HTML // labels on the shapes
	Left             template.HTML // labels of the vertical axis
	Below            template.HTML // labels of the horizontal axis
	Legend           []legendItem
	Zoom             string // the time axis for the script; "" if the chart cannot be zoomed
}

type legendItem struct{ Class, Text string }

const (
	plotWidth  = 1000.0 // in units that are stretched
	plotHeight = 150
	// axisGap is the width of the gap in the time axis where it leaves out a pause.
	axisGap = 14.0
)

// A stack is a part of a column.
type stack struct {
	value float64
	class string
}

// A column is a stacked bar.
type column struct {
	x, width float64
	parts    []stack
	tip      string
}

// columns draws columns with a vertical axis.
func (c *chart) columns(all []column, format func(float64) string) {
	c.Height = plotHeight
	highest := 0.0
	for _, col := range all {
		sum := 0.0
		for _, p := range col.parts {
			sum += p.value
		}
		highest = max(highest, sum)
	}
	step := niceStep(highest / 3)
	top := max(math.Ceil(highest/step*0.999)*step, step)
	var shapes, left svg
	scale := (plotHeight - 8) / top
	for v := 0.0; v <= top*1.001; v += step {
		y := plotHeight - v*scale
		shapes.line(0, y, plotWidth, y, "grid")
		left.label(100, min(y+4, plotHeight), "end", "tick", format(v))
	}
	for _, col := range all {
		y := float64(plotHeight)
		for _, p := range col.parts {
			if p.value <= 0 {
				continue
			}
			h := max(p.value*scale, 0.7)
			y -= h
			shapes.rect(col.x, y, max(col.width*0.94, 0.5), h, p.class, "")
		}
	}
	for _, col := range all {
		shapes.rect(col.x, 0, col.width, plotHeight, "hit", col.tip)
	}
	c.Shapes, c.Left = shapes.html(), left.html()
}

// niceStep returns 1, 2 or 5 times a power of ten that is at least v.
func niceStep(v float64) float64 {
	if v <= 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*p*1.0001 {
			return m * p
		}
	}
	return 10 * p
}

// compact formats a number on an axis, such as 20, 1.5k or 3M.
func compact(v float64) string {
	switch {
	case v >= 1e6:
		return trimmed(v/1e6) + "M"
	case v >= 1e4:
		return trimmed(v/1e3) + "k"
	}
	return trimmed(v)
}

func trimmed(v float64) string {
	return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64)
}

// minOctaves is the minimum range of the axis of a histogram.
const minOctaves = 2

// distributionChart draws a histogram with its quantiles.
func distributionChart(id, title string, d *Distribution, format func(float64) string, ticks []tick) *chart {
	if d == nil {
		return nil
	}
	c := &chart{
		ID: id, Title: title, About: plural(d.Count, "attempt") + "; logarithmic scale",
		Label: fmt.Sprintf("%s: histogram. Median %s, 90 percent below %s, 99 percent below %s.", title, format(d.P50), format(d.P90), format(d.P99)),
	}
	low, high := d.Bars[0].From, d.Bars[len(d.Bars)-1].To
	if low <= 0 {
		low = d.Bars[0].To / 2
	}
	if few := minOctaves - math.Log2(high/low); few > 0 {
		low, high = low*math.Exp2(-few/2), high*math.Exp2(few/2)
	}
	x := func(v float64) float64 {
		return min(max(math.Log(v/low)/math.Log(high/low), 0), 1) * plotWidth
	}
	all := make([]column, 0, len(d.Bars))
	for _, b := range d.Bars {
		from := x(b.From)
		all = append(all, column{
			x: from, width: x(b.To) - from, parts: []stack{{float64(b.Count), "c0"}},
			tip: fmt.Sprintf("%s to %s: %s (%s)", format(b.From), format(b.To), count(b.Count), percent(float64(b.Count), float64(d.Count))),
		})
	}
	c.columns(all, compact)
	var marks, over, below svg
	for i, q := range []struct {
		name  string
		value float64
	}{{"p50", d.P50}, {"p90", d.P90}, {"p99", d.P99}} {
		marks.line(x(q.value), 0, x(q.value), plotHeight, "mark")
		anchor, shift := "start", 0.7
		if x(q.value) > plotWidth*0.85 {
			anchor, shift = "end", -0.7
		}
		over.label(x(q.value)/plotWidth*100+shift, float64(11+13*i), anchor, "mark-text", q.name+" "+format(q.value))
	}
	c.Shapes += marks.html()
	for i, t := range thin(ticks, low, high) {
		class := "tick"
		if i%2 == 1 {
			class = "tick wide"
		}
		below.label(x(t.value)/plotWidth*100, 13, anchorAt(x(t.value)), class, t.text)
	}
	c.Over, c.Below = over.html(), below.html()
	return c
}

// A tick is a label of an axis.
type tick struct {
	value float64
	text  string
}

// durationTicks are the possible labels of an axis of durations.
func durationTicks() (all []tick) {
	for _, unit := range []struct {
		name string
		size float64
		to   float64
	}{{"µs", 1e-6, 1000}, {"ms", 1e-3, 1000}, {"s", 1, 60}, {"min", 60, 60}, {"h", 3600, 24}, {"d", 86400, 1e5}} {
		for p := 1.0; p < unit.to; p *= 10 {
			for _, m := range []float64{1, 2, 5} {
				if v := m * p; v < unit.to {
					all = append(all, tick{v * unit.size, trimmed(v) + " " + unit.name})
				}
			}
		}
	}
	return all
}

// sizeTicks are the possible labels of an axis of sizes.
func sizeTicks() (all []tick) {
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		for v := 1.0; v < 1024; v *= 2 {
			all = append(all, tick{v * math.Pow(1024, float64(i+1)), trimmed(v) + " " + unit})
		}
	}
	return all
}

// maxTicks is the maximum number of labels of the axis of a histogram.
const maxTicks = 7

// thin returns at most maxTicks of the labels between low and high.
func thin(ticks []tick, low, high float64) (all []tick) {
	for _, t := range ticks {
		if t.value >= low && t.value <= high {
			all = append(all, t)
		}
	}
	every := (len(all) + maxTicks - 1) / maxTicks
	for i := 0; i*every < len(all); i++ {
		all[i] = all[i*every]
	}
	if every > 1 {
		all = all[:(len(all)+every-1)/every]
	}
	return all
}

// anchorAt returns the anchor of a label, such that the label does not leave the chart.
func anchorAt(x float64) string {
	switch {
	case x < plotWidth*0.03:
		return "start"
	case x > plotWidth*0.97:
		return "end"
	}
	return "middle"
}
