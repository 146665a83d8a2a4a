package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// draw writes the pictures of docs/performance.md: plots of a file of results, and the
// flame graph of a CPU profile. Either may be left out.
func draw(dir, results, profile string, tasks float64) error {
	if results == "" && profile == "" {
		return errors.New("-pictures: give -results, -profile or both")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a folder of the checkout
		return err
	}
	if profile != "" {
		picture, err := flame(profile, tasks)
		if err != nil {
			return err
		}
		if err := writePicture(dir, "flame.svg", picture); err != nil {
			return err
		}
	}
	if results == "" {
		return nil
	}
	text, err := os.ReadFile(results)
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("%s: %w", results, err)
	}
	for name, p := range growthPlots(&r) {
		if err := writePicture(dir, name, p.svg()); err != nil {
			return err
		}
	}
	return nil
}

func writePicture(dir, name, picture string) error {
	path := filepath.Join(dir, name)
	fmt.Println(path)
	return os.WriteFile(path, []byte(picture), 0o644) //nolint:gosec // for anybody to read
}

// growthPlots are the plots of how cost grows.
func growthPlots(r *report) map[string]*plot {
	tasks := &plot{title: "More tasks (warm Go, nothing to do, 2 slots)", x: "tasks", y: "seconds; MiB"}
	slots := &plot{title: "More slots (400,000 warm Go tasks, nothing to do)", x: "slots", y: "µs of CPU a task; MiB"}
	var wall, cpu, peak, overhead, memory []point
	for _, row := range r.Rows {
		mib := float64(row.PeakMemory) / (1 << 20)
		switch row.Section {
		case "growth of tasks":
			n := float64(row.Tasks)
			wall, cpu, peak = append(wall, point{n, row.Wall}), append(cpu, point{n, row.CPU}), append(peak, point{n, mib})
		case "growth of slots":
			n := float64(row.Slots)
			overhead, memory = append(overhead, point{n, row.Overhead}), append(memory, point{n, mib})
		}
	}
	tasks.lines = []line{{"time from start to end, s", wall}, {"CPU time, s", cpu}, {"peak memory of ctworker, MiB", peak}}
	slots.lines = []line{{"CPU a task, µs", overhead}, {"peak memory of ctworker, MiB", memory}}
	all := map[string]*plot{}
	if len(wall) > 1 {
		all["growth-tasks.svg"] = tasks
	}
	if len(overhead) > 1 {
		all["growth-slots.svg"] = slots
	}
	return all
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;") //nolint:gochecknoglobals // a table

// text is an SVG text.
func text(x, y float64, anchor, fill, s string) string {
	return fmt.Sprintf(`<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, fill, escaper.Replace(s))
}

// svgHead begins a picture of a size, white, with text of 12 pixels.
func svgHead(width, height float64) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" font-family="sans-serif" font-size="12">`+"\n"+
		`<rect width="100%%" height="100%%" fill="#fff"/>`+"\n", width, height, width, height)
}
