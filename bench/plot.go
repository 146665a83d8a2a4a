package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// plot is a plot with both axes logarithmic.
type plot struct {
	title, x, y string
	lines       []line
}

type line struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

// colours are told apart by most people (Okabe and Ito).
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7"} //nolint:gochecknoglobals // a table

func (p *plot) svg() string {
	const width, height, left, right, top, bottom = 760.0, 420.0, 60.0, 20.0, 60.0, 50.0
	var xs, ys []float64
	for _, l := range p.lines {
		for _, at := range l.points {
			xs, ys = append(xs, at.x), append(ys, at.y)
		}
	}
	xFrom, xTo := decades(xs)
	yFrom, yTo := decades(ys)
	px := func(x float64) float64 {
		return left + (math.Log10(x)-xFrom)/(xTo-xFrom)*(width-left-right)
	}
	py := func(y float64) float64 {
		return height - bottom - (math.Log10(y)-yFrom)/(yTo-yFrom)*(height-top-bottom)
	}
	var b strings.Builder
	b.WriteString(svgHead(width, height))
	b.WriteString(text(left, 20, "start", "#000", p.title))
	for e := yFrom; e <= yTo; e++ {
		y := py(math.Pow(10, e))
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", left, y, width-right, y)
		b.WriteString(text(left-6, y+4, "end", "#444", short(math.Pow(10, e))))
	}
	seen := map[float64]bool{}
	for _, x := range xs {
		if seen[x] {
			continue
		}
		seen[x] = true
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#eee"/>`+"\n", px(x), top, px(x), height-bottom)
		b.WriteString(text(px(x), height-bottom+16, "middle", "#444", short(x)))
	}
	b.WriteString(text((left+width-right)/2, height-12, "middle", "#444", p.x))
	b.WriteString(text(left, top-8, "end", "#444", ""))
	for i, l := range p.lines {
		colour := colours[i%len(colours)]
		var path strings.Builder
		for j, at := range l.points {
			command := "L"
			if j == 0 {
				command = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", command, px(at.x), py(at.y))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s at %s: %.3g</title></circle>`+"\n", px(at.x), py(at.y), colour, escaper.Replace(l.name), short(at.x), at.y)
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", path.String(), colour)
		x := left + float64(i)*235
		fmt.Fprintf(&b, `<rect x="%.1f" y="32" width="14" height="4" fill="%s"/>`+"\n", x, colour)
		b.WriteString(text(x+20, 38, "start", "#000", l.name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// decades are the powers of ten around values above 0.
func decades(values []float64) (from, to float64) {
	least, most := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		least, most = min(least, v), max(most, v)
	}
	from, to = math.Floor(math.Log10(least)), math.Ceil(math.Log10(most))
	if from == to {
		to++
	}
	return from, to
}

// short writes 1000 as 1k.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 3, 64) + "M"
	case v >= 1e3:
		return strconv.FormatFloat(v/1e3, 'g', 3, 64) + "k"
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
