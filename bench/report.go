package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report contains all measurements of a run, and is written as a JSON file. Unless stated
// otherwise, times are in seconds, and memory is in bytes.
type report struct {
	Machine machine
	// Noise contains the durations of spin, which is called between the measurements, in
	// nanoseconds.
	Noise []time.Duration
	Rows  []row
}

type machine struct {
	System, CPU        string
	CPUs               int
	Go, Python, Commit string
	Time               time.Time
}

// row contains the results of a contender, as medians of the rounds.
type row struct {
	Section, Name   string
	Mode, Source    string `json:",omitempty"`
	Slots           int    `json:",omitempty"`
	Tasks           int64
	Wall, CPU       float64
	Rate            float64 // tasks per second
	RatePerCPU      float64 // tasks per second of CPU time, including child processes
	Overhead        float64 // µs of CPU time per task, including child processes
	OwnCPU          float64 // CPU time of ctworker itself
	P50, P99        float64 // latency from receiving a task to writing its event
	PeakMemory      int64   // of ctworker itself; 0 for other programs
	RequestsPerTask float64 `json:",omitempty"`
	// Baseline is the name of the row with which this row is compared. Ratios contains, for each
	// round, the rate of this row divided by the rate of the baseline.
	Baseline string    `json:",omitempty"`
	Ratios   []float64 `json:",omitempty"`
	// CPURatio is the CPU time per task of the baseline divided by the CPU time per task of this
	// row.
	CPURatio float64 `json:",omitempty"`
}

func newReport() *report {
	commit := output("git", "describe", "--always", "--dirty")
	kernel := output("uname", "-sr")
	return &report{Machine: machine{
		System: kernel + " " + runtime.GOARCH, CPU: cpuName(), CPUs: runtime.NumCPU(), Go: runtime.Version(),
		Python: output("python3", "--version"), Commit: commit, Time: time.Now().UTC().Truncate(time.Second),
	}}
}

func cpuName() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

// add adds a row for c, and returns the row. base contains the fields that identify the row.
// baseline may be nil.
func (r *report) add(base row, c, baseline *contender) row {
	row := base
	row.Name, row.Tasks = c.name, c.tasks
	row.Wall = median(column(c.runs, func(s sample) time.Duration { return s.wall })).Seconds()
	row.CPU = median(column(c.runs, func(s sample) time.Duration { return s.cpu })).Seconds()
	row.OwnCPU = median(column(c.runs, func(s sample) time.Duration { return s.own })).Seconds()
	row.P50 = median(column(c.runs, func(s sample) time.Duration { return s.p50 })).Seconds()
	row.P99 = median(column(c.runs, func(s sample) time.Duration { return s.p99 })).Seconds()
	row.PeakMemory = slices.Max(column(c.runs, func(s sample) int64 { return s.peak }))
	row.RequestsPerTask = float64(median(column(c.runs, func(s sample) int { return s.requests }))) / float64(c.tasks)
	n := float64(c.tasks)
	row.Rate, row.RatePerCPU, row.Overhead = n/row.Wall, n/row.CPU, row.CPU/n*1e6
	if baseline != nil {
		row.Baseline = baseline.name
		var cpu []float64
		for i, s := range c.runs {
			other := baseline.runs[i]
			row.Ratios = append(row.Ratios, c.rate(s)/baseline.rate(other))
			cpu = append(cpu, other.cpu.Seconds()/float64(baseline.tasks)/(s.cpu.Seconds()/n))
		}
		row.CPURatio = median(cpu)
	}
	r.Rows = append(r.Rows, row)
	return row
}

func header() {
	fmt.Printf("%-34s %9s %10s %8s %9s %9s %8s %8s  %s\n", "", "tasks/s", "per vCPU", "µs/task", "p50 ms", "p99 ms", "MiB", "req/task", "ratio to baseline")
}

func (r row) print() {
	latency := func(s float64) string {
		if s == 0 {
			return "–"
		}
		return fmt.Sprintf("%.3g", s*1000)
	}
	requests, ratio := "–", ""
	if r.RequestsPerTask > 0 {
		requests = fmt.Sprintf("%.3f", r.RequestsPerTask)
	}
	if r.Baseline != "" {
		ratio = fmt.Sprintf("%.2f (%.2f–%.2f) × %s", median(r.Ratios), slices.Min(r.Ratios), slices.Max(r.Ratios), r.Baseline)
	}
	memory := "–" // unknown for other programs, because the kernel's number includes the memory of their parent
	if r.PeakMemory > 0 {
		memory = fmt.Sprintf("%.1f", float64(r.PeakMemory)/(1<<20))
	}
	fmt.Printf("%-34s %9.0f %10.0f %8.1f %9s %9s %8s %8s  %s\n", r.Name, r.Rate, r.RatePerCPU, r.Overhead,
		latency(r.P50), latency(r.P99), memory, requests, ratio)
}

// write writes the report to a file in dir, and returns the path of the file.
func (r *report) write(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a folder of the checkout
		return "", err
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, fmt.Sprintf("%s-%s.json", r.Machine.Time.Format("20060102-150405"), r.Machine.Commit))
	return path, os.WriteFile(path, append(text, '\n'), 0o644) //nolint:gosec // world-readable
}
