// Command bench measures the throughput, CPU time and latency of ctworker. Most measurements
// compare ctworker with a baseline: the minimum work that the machine must do, or another tool. The
// runs of ctworker and of the baseline alternate, because a single measurement on a noisy machine is
// not reliable. The exit code does not depend on the results.
//
//	go run ./bench                everything except the peers, with build/ctworker
//	go run ./bench -run matrix    each mode × each source × each number of slots
//	go run ./bench -run start     time from the command line to the first task
//	go run ./bench -run read      read a file of 10,000,000 tasks and run the last 10
//	go run ./bench -run growth    cost of 1 to 10,000,000 tasks, and with 1 to 256 slots
//	go run ./bench -run waiting   256 slots that wait, and a worker on an empty queue
//	go run ./bench -run peers     the same work with xargs, GNU parallel, Celery and others
//
// The results are printed, and written as JSON to bench/results together with the machine, the
// versions and the commit. See docs/performance.md.
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
	only := flag.String("run", "matrix start read growth waiting", "the measurements to make, separated by spaces")
	flag.StringVar(&b.binary, "ctworker", "build/ctworker", "the program to measure")
	flag.IntVar(&b.rounds, "rounds", 3, "the number of rounds; each round runs each command once")
	flag.Int64Var(&b.tasks, "tasks", 10_000_000, "the number of tasks in the largest files")
	flag.StringVar(&b.modes, "modes", "", "limit the matrix to modes whose names contain this text")
	flag.StringVar(&b.sources, "sources", "", "limit the matrix to sources whose names contain this text")
	out := flag.String("out", "bench/results", "the folder for the JSON file of the results; no file is written if it is empty")
	svg := flag.String("svg", "", "measure nothing; plot the growth measurements of -results into this folder")
	results := flag.String("results", "", "the JSON file that -svg plots")
	profile := flag.String("profile", "", "measure nothing; print the CPU time of each part of ctworker in this CPU profile")
	profileTasks := flag.Float64("profile-tasks", 1_000_000, "the number of tasks of the run in which -profile was recorded")
	flag.Parse()
	var err error
	switch {
	case *svg != "":
		err = plotGrowth(*svg, *results)
	case *profile != "":
		err = breakdown(*profile, *profileTasks)
	default:
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
		return fmt.Errorf("%w; run \"make build\"", err)
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
			return fmt.Errorf("-run %s: unknown measurement; must be matrix, start, read, growth, waiting or peers", name)
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
	fmt.Printf("\nnoise of this machine: a fixed loop took %s\n", spread(b.report.Noise))
	if out == "" {
		return nil
	}
	path, err := b.report.write(out)
	if err == nil {
		fmt.Println("written to", path)
	}
	return err
}

// slotCounts returns the numbers of slots to measure.
func slotCounts() []int {
	if n := runtime.NumCPU(); n > 1 {
		return []int{1, n, 2 * n}
	}
	return []int{1, 2}
}
