// Command bench measures ctworker beside what a user would take instead, and
// beside the least that the machine needs for the same, in one run and in turn:
// the machines it runs on are noisy, and a single time says little. No figure
// fails anything.
//
//	go run ./bench                 everything but the peers, with build/ctworker
//	go run ./bench -run matrix    how tasks run × where they come from × slots
//	go run ./bench -run start     from the command line to the first task
//	go run ./bench -run read      reading a file of 10,000,000 tasks, of which 10 are run
//	go run ./bench -run growth    cost from 1 to 10,000,000 tasks, and from 1 to 256 slots
//	go run ./bench -run waiting   256 slots that wait, and a worker on an empty queue
//	go run ./bench -run peers     the same work by xargs, GNU parallel, Celery and others
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
	only := flag.String("run", "matrix start read growth waiting", "the measurements to make, separated by spaces")
	flag.StringVar(&b.binary, "ctworker", "build/ctworker", "the program to measure")
	flag.IntVar(&b.rounds, "rounds", 3, "the number of rounds; each round runs each command once")
	flag.Int64Var(&b.tasks, "tasks", 10_000_000, "the number of tasks in the largest files")
	flag.StringVar(&b.modes, "modes", "", "limit the matrix to modes whose names contain this text")
	flag.StringVar(&b.sources, "sources", "", "limit the matrix to sources whose names contain this text")
	out := flag.String("out", "bench/results", "the folder for the JSON file of the results; none if empty")
	svg := flag.String("svg", "", "measure nothing; plot the growth measurements of -results into this folder")
	results := flag.String("results", "", "the JSON file that -svg plots")
	profile := flag.String("profile", "", "measure nothing; print which parts of ctworker take the time of this CPU profile")
	profileTasks := flag.Float64("profile-tasks", 1_000_000, "the number of tasks of the run that -profile is of")
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
			return fmt.Errorf("-run %s: there are matrix, start, read, growth, waiting and peers", name)
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
