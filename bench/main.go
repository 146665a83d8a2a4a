// Command bench measures ctworker beside what a user would take instead, and
// beside the least that the machine needs for the same, in one run and in turn:
// the machines it runs on are noisy, and a single time says little. No figure
// fails anything.
//
//	go run ./bench                 everything but the peers, with build/ctworker
//	go run ./bench -only matrix    how tasks run × where they come from × slots
//	go run ./bench -only start     from the command line to the first task
//	go run ./bench -only read      reading a file of 10,000,000 tasks, of which 10 are run
//	go run ./bench -only growth    cost from 1 to 10,000,000 tasks, and from 1 to 256 slots
//	go run ./bench -only waiting   256 slots that wait, and a worker on an empty queue
//	go run ./bench -only peers     the same work by xargs, GNU parallel, Celery and others
//
// What it found is printed, and written to bench/results as JSON with the machine,
// the versions and the commit. See docs/performance.md.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ctworker/ctworker/internal/procexec"
)

func main() {
	procexec.RunGuard()
	if role := roles()[os.Getenv(roleVar)]; role != nil {
		role()
		return
	}
	b := bench{report: newReport()}
	only := flag.String("only", "matrix start read growth waiting", "what to measure, with spaces between")
	flag.StringVar(&b.binary, "ctworker", "build/ctworker", "the program")
	flag.IntVar(&b.rounds, "rounds", 3, "how often each command is run, in turn")
	flag.Int64Var(&b.tasks, "tasks", 10_000_000, "how many tasks the largest files have")
	flag.StringVar(&b.modes, "modes", "", "of the matrix, those that have this in their names")
	flag.StringVar(&b.sources, "sources", "", "of the matrix, those that have this in their names")
	out := flag.String("out", "bench/results", "the folder for the JSON file; empty: none")
	pictures := flag.String("pictures", "", "draw the plots of a JSON file that is there, and the flame graph of -profile, into this folder, and measure nothing")
	results := flag.String("results", "", "the JSON file that -pictures are of")
	profile := flag.String("profile", "", "the CPU profile of -pictures' flame graph")
	profiled := flag.Float64("profiled", 1_000_000, "how many tasks -profile is of")
	flag.Parse()
	err := error(nil)
	if *pictures != "" {
		err = draw(*pictures, *results, *profile, *profiled)
	} else {
		err = b.run(strings.Fields(*only), *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	binary         string
	rounds         int
	tasks          int64
	modes, sources string
	dir            string
	report         *report
}

func (b *bench) run(what []string, out string) (err error) {
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	if _, err := os.Stat(b.binary); err != nil {
		return fmt.Errorf("%w (make build makes it)", err)
	}
	if b.dir, err = os.MkdirTemp("", "ctworker-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	measures := map[string]func() error{
		"matrix": b.matrix, "start": b.start, "read": b.read, "growth": b.growth, "waiting": b.waiting, "peers": b.peers,
	}
	for _, name := range what {
		if measures[name] == nil {
			return fmt.Errorf("-only %s: there are matrix, start, read, growth, waiting and peers", name)
		}
	}
	m := b.report.Machine
	fmt.Printf("%s, %d CPUs (%s), %s, %s, commit %s\n", m.System, m.CPUs, m.CPU, m.Go, m.Python, m.Commit)
	b.report.Noise = append(b.report.Noise, spin())
	for _, name := range what {
		if err := measures[name](); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		b.report.Noise = append(b.report.Noise, spin())
	}
	fmt.Printf("\nthe same loop took this machine %s: the rest of its noise is in the spread of the ratios\n", spread(b.report.Noise))
	if out == "" {
		return nil
	}
	path, err := b.report.write(out)
	if err == nil {
		fmt.Println("written to", path)
	}
	return err
}

// slotCounts are the numbers of slots that are measured.
func slotCounts() []int {
	if n := runtime.NumCPU(); n > 1 {
		return []int{1, n, 2 * n}
	}
	return []int{1, 2}
}
