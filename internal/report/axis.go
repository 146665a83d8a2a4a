package report

import (
	"encoding/json"
	"html/template"
	"math"
	"time"
)

// A timeAxis maps times to horizontal positions. It leaves out long pauses.
type timeAxis struct {
	segments []axisSegment
}

// An axisSegment maps times, in microseconds, to positions.
type axisSegment struct {
	from, to int64
	x0, x1   float64
}

func newTimeAxis(t *TimeSeries) *timeAxis {
	a := &timeAxis{}
	total := int64(0)
	for _, g := range t.segments {
		total += g.to - g.from
	}
	if total == 0 {
		return a
	}
	usable := plotWidth - axisGap*float64(len(t.segments)-1)
	x := 0.0
	for _, g := range t.segments {
		width := usable * float64(g.to-g.from) / float64(total)
		a.segments = append(a.segments, axisSegment{g.from * t.width, g.to * t.width, x, x + width})
		x += width + axisGap
	}
	return a
}

// x returns the position of a time.
func (a *timeAxis) x(t int64) float64 {
	for _, s := range a.segments {
		if t < s.to {
			return s.x0 + (s.x1-s.x0)*float64(max(t-s.from, 0))/float64(s.to-s.from)
		}
	}
	return plotWidth
}

// json returns the axis for the script: from and to in milliseconds, and the positions.
func (a *timeAxis) json() string {
	all := make([][4]float64, 0, len(a.segments))
	for _, s := range a.segments {
		all = append(all, [4]float64{float64(s.from) / 1e3, float64(s.to) / 1e3, s.x0, s.x1})
	}
	b, _ := json.Marshal(all) // finite numbers
	return string(b)
}

// tickSteps are the possible distances between two labels of the axis.
var tickSteps = []time.Duration{
	10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
}

const (
	minTickDistance = 105.0
	day             = 24 * time.Hour
)

// labels returns the labels of the axis: the times, and below them the dates.
func (a *timeAxis) labels() template.HTML {
	var s svg
	lastX, n, date := math.Inf(-1), 0, ""
	for _, g := range a.segments {
		step := g.step()
		for t := (g.from + step - 1) / step * step; t <= g.to; t += step {
			x := g.x0 + (g.x1-g.x0)*float64(t-g.from)/float64(g.to-g.from)
			if x < lastX+minTickDistance*0.8 {
				continue
			}
			at := time.UnixMicro(t).UTC()
			class := "tick"
			if n%2 == 1 {
				class = "tick wide"
			}
			s.label(x/plotWidth*100, 13, anchorAt(x), class, tickText(at, step))
			if d := at.Format("Jan 2, 2006"); d != date {
				if step < int64(day/time.Microsecond) {
					s.label(x/plotWidth*100, 27, anchorAt(x), class+" date", d)
				}
				date = d
			}
			lastX = x
			n++
		}
	}
	return s.html()
}

// step returns the distance between two labels in microseconds.
func (g axisSegment) step() int64 {
	perUnit := float64(g.to-g.from) / max(g.x1-g.x0, 1)
	want := time.Duration(min(perUnit*minTickDistance*1000, math.MaxInt64/4))
	for _, s := range tickSteps {
		if s >= want {
			return int64(s / time.Microsecond)
		}
	}
	days := int64(math.Ceil(float64(want) / float64(day)))
	return days * int64(day/time.Microsecond)
}

func tickText(t time.Time, step int64) string {
	switch {
	case step < 1e6:
		return t.Format("15:04:05.00")
	case step < 60e6:
		return t.Format("15:04:05")
	case step < int64(day/time.Microsecond):
		return t.Format("15:04")
	}
	return t.Format("Jan 2, 2006")
}

// pauses draws the gaps of the axis.
func (a *timeAxis) pauses(s *svg, height float64) {
	for i := 1; i < len(a.segments); i++ {
		s.rect(a.segments[i].x0-axisGap, 0, axisGap, height, "pause", "")
		s.line(a.segments[i].x0-axisGap/2, 0, a.segments[i].x0-axisGap/2, height, "cut")
	}
}

// about returns a text about the pauses.
func (a *timeAxis) about() string {
	if len(a.segments) < 2 {
		return ""
	}
	return "; dashed lines mark pauses that the axis leaves out"
}
