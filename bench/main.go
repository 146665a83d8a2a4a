// Command bench measures ctworker beside what a user would take instead, in one
// run and in turn, and prints medians and ratios: the machines it runs on are
// noisy, and a single time says little. No figure fails anything.
//
//	go run ./bench                 all of them, with build/ctworker
//	go run ./bench -only commands  2,000 × /bin/true, beside xargs and GNU parallel
//	go run ./bench -only start     from the command line to the first task
//	go run ./bench -only read      a file of 10,000,000 tasks, of which 10 are run
//	go run ./bench -only warm      400,000 tasks in warm processes, beside the socket alone
//	go run ./bench -only python    Python functions, beside a bare loop of forks
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ctworker/ctworker/procexec"
)

func main() {
	procexec.RunGuard()
	if role := roles[os.Getenv(roleVar)]; role != nil {
		role()
		return
	}
	b := bench{}
	only := flag.String("only", "commands start read warm python", "what to measure")
	flag.StringVar(&b.binary, "ctworker", "build/ctworker", "the program")
	flag.IntVar(&b.pairs, "pairs", 5, "how often each command is run, in turn")
	flag.Int64Var(&b.tasks, "tasks", 10_000_000, "how many tasks the file of -only read has")
	flag.Parse()
	if err := b.run(strings.Fields(*only)); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	binary string
	pairs  int
	tasks  int64
	dir    string
}

func (b *bench) run(what []string) error {
	var err error
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
	fmt.Printf("%s %s, %d CPUs, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	measures := map[string]func() error{"commands": b.commands, "start": b.start, "read": b.read, "warm": b.warm, "python": b.python}
	for _, name := range what {
		measure, ok := measures[name]
		if !ok {
			return fmt.Errorf("-only %s: there are commands, start, read, warm and python", name)
		}
		if err := measure(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// contender is one way to do the same work.
type contender struct {
	name string
	argv []string
	env  []string // beside this program's
	part float64  // of the tasks that it runs; 0: all
	runs []sample
}

type sample struct {
	wall, cpu time.Duration
	peak      int64 // bytes, of the process itself
}

// inTurn runs the contenders one after the other, pairs times and once before
// to warm up.
func (b *bench) inTurn(cs []contender) error {
	for i := range b.pairs + 1 {
		for c := range cs {
			s, err := b.once(cs[c])
			if err != nil {
				return fmt.Errorf("%s: %w", cs[c].name, err)
			}
			if i > 0 {
				cs[c].runs = append(cs[c].runs, s)
			}
		}
	}
	return nil
}

func (b *bench) once(c contender) (sample, error) {
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), c.env...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	wall := time.Since(began)
	if err != nil {
		return sample{}, fmt.Errorf("%w: %s", err, out)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return sample{}, errors.New("this system tells nothing of a process's usage")
	}
	return sample{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), usage.Maxrss * 1024}, nil
}

func median[T int64 | time.Duration | float64](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func column[T any](runs []sample, f func(sample) T) []T {
	var all []T
	for _, s := range runs {
		all = append(all, f(s))
	}
	return all
}

// commands runs 2,000 processes that do nothing.
func (b *bench) commands() error {
	const n = 2000
	if err := b.taskFile("tasks.json", n); err != nil {
		return err
	}
	ctworker := []string{b.binary, "run", "--task-file", "tasks.json", "--event-log-file", "events.log", "-j", "2", "--", "/bin/true"}
	cs := []contender{
		{name: "ctworker", argv: ctworker},
		{name: "xargs -P2", argv: []string{"sh", "-c", fmt.Sprintf("seq %d | xargs -P2 -n1 /bin/true", n)}},
	}
	if parallel, err := exec.LookPath("parallel"); err == nil {
		cs = append(cs, contender{name: "GNU parallel", argv: []string{"sh", "-c", fmt.Sprintf("seq %d | %s -j2 /bin/true", n, parallel)}})
	} else {
		fmt.Println("GNU parallel is not installed, and is left out")
	}
	if err := b.inTurn(cs); err != nil {
		return err
	}
	fmt.Printf("\n%d × /bin/true, 2 at a time, %d runs each in turn\n", n, b.pairs)
	fmt.Printf("%-14s %10s %10s %12s %22s\n", "", "wall s", "CPU s", "tasks/s", "ctworker's rate is")
	for _, c := range cs {
		var ratios []float64
		for i, s := range c.runs {
			ratios = append(ratios, s.wall.Seconds()/cs[0].runs[i].wall.Seconds())
		}
		wall := median(column(c.runs, func(s sample) time.Duration { return s.wall })).Seconds()
		cpu := median(column(c.runs, func(s sample) time.Duration { return s.cpu })).Seconds()
		fmt.Printf("%-14s %10.3f %10.3f %12.0f %10.2f × (%.2f–%.2f)\n", c.name, wall, cpu, n/wall,
			median(ratios), slices.Min(ratios), slices.Max(ratios))
	}
	return nil
}

// start measures from the start of the command until its first task runs. The
// task is "date", whose clock is this machine's too.
func (b *bench) start() error {
	if err := b.taskFile("one.json", 1); err != nil {
		return err
	}
	var first, whole []time.Duration
	for i := range b.pairs*4 + 1 {
		cmd := exec.Command(b.binary, "run", "--task-file", "one.json", "--event-log-file", "start.log", "--", "sh", "-c", "date +%s%N > first")
		cmd.Dir = b.dir
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		took := time.Since(began)
		text, err := os.ReadFile(filepath.Join(b.dir, "first"))
		if err != nil {
			return err
		}
		var nanos int64
		if _, err := fmt.Sscan(string(text), &nanos); err != nil {
			return fmt.Errorf("date said %q: %w", text, err)
		}
		if i > 0 {
			first = append(first, time.Unix(0, nanos).Sub(began))
			whole = append(whole, took)
		}
	}
	fmt.Printf("\nfrom the start to the first task: %.1f ms (at most %.1f) of %d runs; the whole run of one task: %.1f ms\n",
		ms(median(first)), ms(slices.Max(first)), len(first), ms(median(whole)))
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// read has a large task file read and runs its last ten tasks.
func (b *bench) read() error {
	if err := b.taskFile("large.json", b.tasks); err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(b.dir, "large.json"))
	if err != nil {
		return err
	}
	cs := []contender{
		{name: "ctworker", argv: []string{
			b.binary, "run", "--task-file", "large.json", "--tasks-to-skip", fmt.Sprint(b.tasks - 10),
			"--event-log-file", "read.log", "--", "/bin/true",
		}},
		{name: "wc -l", argv: []string{"wc", "-l", "large.json"}},
	}
	if err := b.inTurn(cs); err != nil {
		return err
	}
	mb := float64(info.Size()) / 1e6
	fmt.Printf("\n%d tasks, %.0f MB of JSON, of which the last 10 are run, %d runs\n", b.tasks, mb, b.pairs)
	for _, c := range cs {
		wall := median(column(c.runs, func(s sample) time.Duration { return s.wall }))
		peak := slices.Max(column(c.runs, func(s sample) int64 { return s.peak }))
		fmt.Printf("%-10s %8.2f s %8.0f MB/s   peak memory %5.1f MiB\n", c.name, wall.Seconds(), mb/wall.Seconds(), float64(peak)/(1<<20))
	}
	return nil
}

// taskFile writes a JSON array of n tasks of about 70 bytes.
func (b *bench) taskFile(name string, n int64) (err error) {
	f, err := os.Create(filepath.Join(b.dir, name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	separator := "["
	for i := range n {
		if _, err := fmt.Fprintf(w, "%s\n{\"task_id\": \"task-%08d\", \"data\": {\"num1\": %8d, \"num2\": %8d}}", separator, i, i, 2*i); err != nil {
			return err
		}
		separator = ","
	}
	if n == 0 {
		_, _ = w.WriteString(separator)
	}
	_, _ = w.WriteString("\n]\n")
	return w.Flush()
}
