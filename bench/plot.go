package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// plotGrowth reads a report from the file at the path results, and writes the plots of
// docs/performance.md into dir.
func plotGrowth(dir, results string) error {
	if results == "" {
		return errors.New("-svg requires -results, the JSON file to plot")
	}
	text, err := os.ReadFile(results)
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("%s: %w", results, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a folder of the checkout
		return err
	}
	for name, p := range growthPlots(&r) {
		path := filepath.Join(dir, name)
		if err := p.save(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Println(path)
	}
	return nil
}

// A growthPlot is a plot with two logarithmic axes.
type growthPlot struct {
	title, x, y string
	series      []series
}

type series struct {
	name   string
	points plotter.XYs
}

// growthPlots returns the plots by file name. They show how time, CPU time and memory grow with the
// number of tasks and of slots.
func growthPlots(r *report) map[string]growthPlot {
	var wall, cpu, peak, overhead, memory plotter.XYs
	for _, row := range r.Rows {
		mib := float64(row.PeakMemory) / (1 << 20)
		switch row.Section {
		case "growth of tasks":
			n := float64(row.Tasks)
			wall, cpu, peak = append(wall, plotter.XY{X: n, Y: row.Wall}), append(cpu, plotter.XY{X: n, Y: row.CPU}), append(peak, plotter.XY{X: n, Y: mib})
		case "growth of slots":
			n := float64(row.Slots)
			overhead, memory = append(overhead, plotter.XY{X: n, Y: row.Overhead}), append(memory, plotter.XY{X: n, Y: mib})
		}
	}
	all := map[string]growthPlot{}
	if len(wall) > 1 {
		all["growth-tasks.svg"] = growthPlot{"More tasks (reused Go process, empty tasks, 2 slots)", "tasks", "seconds; MiB", []series{
			{"time from start to end, s", wall}, {"CPU time, s", cpu}, {"peak memory of ctworker, MiB", peak},
		}}
	}
	if len(overhead) > 1 {
		all["growth-slots.svg"] = growthPlot{"More slots (400,000 empty tasks of reused Go processes)", "slots", "µs of CPU per task; MiB", []series{
			{"CPU per task, µs", overhead}, {"peak memory of ctworker, MiB", memory},
		}}
	}
	return all
}

// colors of Okabe and Ito, which colorblind readers can distinguish.
var colors = []color.RGBA{ //nolint:gochecknoglobals // a table
	{R: 0x00, G: 0x72, B: 0xb2, A: 0xff}, {R: 0xd5, G: 0x5e, B: 0x00, A: 0xff}, {R: 0x00, G: 0x9e, B: 0x73, A: 0xff},
}

func (g growthPlot) save(path string) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = g.title, g.x, g.y
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	for i, s := range g.series {
		line, points, err := plotter.NewLinePoints(s.points)
		if err != nil {
			return err
		}
		line.Color, points.Color = colors[i%len(colors)], colors[i%len(colors)]
		line.Width = vg.Points(1.5)
		p.Add(line, points)
		p.Legend.Add(s.name, line, points)
	}
	p.Y.Max *= 5 // room for the legend
	p.Title.Padding = vg.Points(6)
	return p.Save(8*vg.Inch, 4.5*vg.Inch, path)
}
