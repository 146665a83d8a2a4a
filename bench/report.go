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

// report is everything that was measured, as its JSON file has it. Times are in
// seconds unless they say otherwise, memory is in bytes.
type report struct {
	Machine machine
	// Noise is how long the same loop took, between the measurements.
	Noise []time.Duration
	Rows  []row
}

type machine struct {
	System, CPU        string
	CPUs               int
	Go, Python, Commit string
	Time               time.Time
}

// row is what came of a contender: medians over the rounds.
type row struct {
	Section, Name   string
	Mode, Source    string `json:",omitempty"`
	Slots           int    `json:",omitempty"`
	Tasks           int64
	Wall, CPU       float64
	Rate            float64 // tasks a second
	RatePerCPU      float64 // tasks a second of CPU time used, children included
	Overhead        float64 // µs of CPU a task, children included
	OwnCPU          float64 // of ctworker alone
	P50, P99        float64 // from being received to being told of
	PeakMemory      int64   // of ctworker itself; 0: another program
	RequestsPerTask float64 `json:",omitempty"`
	// Beside is what the ratios are to: each round's rate over that of Beside.
	Beside string    `json:",omitempty"`
	Ratios []float64 `json:",omitempty"`
	// CPURatio is Beside's CPU time a task over this one's.
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

// add enters a contender; beside may be nil.
func (r *report) add(base row, c, beside *contender) row {
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
	if beside != nil {
		row.Beside = beside.name
		var cpu []float64
		for i, s := range c.runs {
			other := beside.runs[i]
			row.Ratios = append(row.Ratios, c.rate(s)/beside.rate(other))
			cpu = append(cpu, other.cpu.Seconds()/float64(beside.tasks)/(s.cpu.Seconds()/n))
		}
		row.CPURatio = median(cpu)
	}
	r.Rows = append(r.Rows, row)
	return row
}

func header() {
	fmt.Printf("%-34s %9s %10s %8s %9s %9s %8s %8s  %s\n", "", "tasks/s", "per vCPU", "µs/task", "p50 ms", "p99 ms", "MiB", "req/task", "rate beside")
}

func (r row) print() {
	latency := func(s float64) string {
		if s == 0 {
			return "–"
		}
		return fmt.Sprintf("%.3g", s*1000)
	}
	requests, beside := "–", ""
	if r.RequestsPerTask > 0 {
		requests = fmt.Sprintf("%.3f", r.RequestsPerTask)
	}
	if r.Beside != "" {
		beside = fmt.Sprintf("%.2f (%.2f–%.2f) × %s", median(r.Ratios), slices.Min(r.Ratios), slices.Max(r.Ratios), r.Beside)
	}
	memory := "–" // of others it is not known: the system counts that of the program that starts them
	if r.PeakMemory > 0 {
		memory = fmt.Sprintf("%.1f", float64(r.PeakMemory)/(1<<20))
	}
	fmt.Printf("%-34s %9.0f %10.0f %8.1f %9s %9s %8s %8s  %s\n", r.Name, r.Rate, r.RatePerCPU, r.Overhead,
		latency(r.P50), latency(r.P99), memory, requests, beside)
}

// write writes the report into a folder, and returns the file's name.
func (r *report) write(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a folder of the checkout
		return "", err
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, fmt.Sprintf("%s-%s.json", r.Machine.Time.Format("20060102-150405"), r.Machine.Commit))
	return path, os.WriteFile(path, append(text, '\n'), 0o644) //nolint:gosec // for anybody to read
}
