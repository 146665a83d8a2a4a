package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// start measures the time from the start of the command until its first task runs. The task runs
// the program date, because the time that date prints can be compared with the time in this
// program.
func (b *bench) start() error {
	if err := b.taskFile("one.json", 1); err != nil {
		return err
	}
	var first, whole []time.Duration
	for i := range b.rounds*10 + 1 {
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
			return fmt.Errorf("the program date printed %q: %w", text, err)
		}
		if i > 0 {
			first = append(first, time.Unix(0, nanos).Sub(began))
			whole = append(whole, took)
		}
	}
	fmt.Printf("\ntime to the first task: %.1f ms (median of %d); whole run of one task: %.1f ms\n",
		ms(median(first)), len(first), ms(median(whole)))
	b.report.Rows = append(b.report.Rows,
		row{Section: "start", Name: "to the first task", Tasks: 1, Wall: median(first).Seconds()},
		row{Section: "start", Name: "a whole run of one task", Tasks: 1, Wall: median(whole).Seconds()})
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// read runs only the last ten tasks of large task files, so most of the measured time is the time
// to read the file.
func (b *bench) read() error {
	const few = 10
	var cs []*contender
	sizes := map[string]float64{}
	for _, f := range []struct {
		name  string
		tasks int64
		write func(string, int64) error
	}{
		{"large.json", b.tasks, b.taskFile}, {"block.yaml", b.tasks / 50, b.yamlFile},
	} {
		if err := f.write(f.name, f.tasks); err != nil {
			return err
		}
		info, err := os.Stat(filepath.Join(b.dir, f.name))
		if err != nil {
			return err
		}
		sizes[f.name] = float64(info.Size()) / 1e6
		cs = append(cs, &contender{name: f.name, tasks: few, argv: []string{
			b.binary, "run", "--task-file", f.name, "--tasks-to-skip", fmt.Sprint(f.tasks - few),
			"--event-log-file", "events.log", "--", "/bin/true",
		}})
	}
	if err := b.inTurn(cs); err != nil {
		return err
	}
	fmt.Printf("\nread a file and run its last %d tasks, %d rounds\n", few, b.rounds)
	for _, c := range cs {
		r := b.report.add(row{Section: "read"}, c, nil)
		fmt.Printf("%-12s %8.0f MB %8.2f s %8.0f MB/s   peak memory %5.1f MiB\n", c.name, sizes[c.name], r.Wall, sizes[c.name]/r.Wall, float64(r.PeakMemory)/(1<<20))
		_ = os.Remove(filepath.Join(b.dir, c.name))
	}
	return nil
}

// yamlFile writes a YAML list of n tasks in block style.
func (b *bench) yamlFile(name string, n int64) error {
	f, err := os.Create(filepath.Join(b.dir, name))
	if err != nil {
		return err
	}
	for i := int64(0); i < n && err == nil; i++ {
		_, err = fmt.Fprintf(f, "- task_id: task-%08d\n  data:\n    num1: %d\n    num2: %d\n", i, i, 2*i)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// growth measures how the cost of tasks in worker processes depends on the number of tasks and the
// number of slots.
func (b *bench) growth() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	reused := func(n int64, slots int) (*contender, error) {
		file := fmt.Sprintf("tasks-%d.json", n)
		if err := b.taskFile(file, n); err != nil {
			return nil, err
		}
		return &contender{
			name: fmt.Sprintf("%d tasks, -j %d", n, slots), tasks: n, env: []string{roleVar + "=worker"},
			argv: []string{self, "--task-file", file, "--event-log-file", "events.log", "-j", strconv.Itoa(slots)},
		}, nil
	}
	rounds := b.rounds
	defer func() { b.rounds = rounds }()
	fmt.Print("\nGo tasks that do nothing, in worker processes, by number of tasks\n")
	header()
	for n := int64(1); n <= b.tasks; n *= 10 {
		c, err := reused(n, slotCounts()[1])
		if err != nil {
			return err
		}
		if b.rounds = rounds; n > 1_000_000 {
			b.rounds = 1
		}
		if err := b.inTurn([]*contender{c}); err != nil {
			return err
		}
		b.report.add(row{Section: "growth of tasks", Slots: slotCounts()[1]}, c, nil).print()
		_ = os.Remove(filepath.Join(b.dir, fmt.Sprintf("tasks-%d.json", n)))
	}
	b.rounds = rounds
	const n = 400_000
	fmt.Printf("\n%d Go tasks that do nothing, in worker processes, by number of slots\n", n)
	header()
	for slots := 1; slots <= 256; slots *= 2 {
		c, err := reused(n, slots)
		if err != nil {
			return err
		}
		if err := b.inTurn([]*contender{c}); err != nil {
			return err
		}
		b.report.add(row{Section: "growth of slots", Slots: slots}, c, nil).print()
	}
	return nil
}

// waiting measures the CPU time that ctworker uses while it waits.
func (b *bench) waiting() error {
	if err := b.sleepers(); err != nil {
		return err
	}
	for _, name := range []string{"SQS", "PubSub"} {
		if err := b.idle(name); err != nil {
			return err
		}
	}
	return nil
}

// sleepers measures 256 slots whose tasks sleep for a second.
func (b *bench) sleepers() error {
	const slots, rounds = 256, 20
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := b.taskFile("sleep.json", slots*rounds); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(b.dir, "events.log"))
	cmd := exec.Command(self, "--task-file", "sleep.json", "--event-log-file", "events.log", "-j", strconv.Itoa(slots))
	cmd.Dir, cmd.Env = b.dir, append(os.Environ(), roleVar+"=sleeper")
	var log bytes.Buffer
	cmd.Stderr = &log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	const from, to = 5 * time.Second, 15 * time.Second // measured while all processes run
	time.Sleep(from)                                   //nolint:forbidigo // start of the measurement
	cpu := cpuOf(cmd.Process.Pid)
	time.Sleep(to - from) //nolint:forbidigo // duration of the measurement
	cpu = cpuOf(cmd.Process.Pid) - cpu
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, log.Bytes())
	}
	whole := time.Since(began)
	var s sample
	if err := s.parseLog(log.Bytes(), slots*rounds); err != nil {
		return err
	}
	steady, err := b.steadyRate(slots)
	if err != nil {
		return err
	}
	share := cpu.Seconds() / (to - from).Seconds()
	b.report.Rows = append(b.report.Rows, row{
		Section: "waiting", Name: "256 × sleep 1 s, once all processes have started", Slots: slots, Tasks: slots * rounds,
		Wall: whole.Seconds(), Rate: steady, OwnCPU: share, PeakMemory: s.peak,
	})
	fmt.Printf("\n%d slots, tasks that sleep for 1 s: %.0f tasks/s including the start of %d processes; %.1f tasks/s after it, with %.1f %% of a CPU for ctworker itself; %.1f MiB\n",
		slots, slots*rounds/whole.Seconds(), slots, steady, 100*share, float64(s.peak)/(1<<20))
	return nil
}

// steadyRate returns the number of tasks per second. It excludes the first two rounds and the last
// round, in which not all slots are busy.
func (b *bench) steadyRate(slots int) (float64, error) {
	times, err := eventTimes(filepath.Join(b.dir, "events.log"))
	if err != nil {
		return 0, err
	}
	first, last := 2*slots, len(times)-slots-1
	return float64(last-first) / times[last].Sub(times[first]).Seconds(), nil
}

// idle measures the CPU time and the requests of a worker on an empty queue for a minute.
func (b *bench) idle(name string) error {
	const span = time.Minute
	at, err := startServer(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer at.close()
	if err := b.taskFile("none.json", 0); err != nil {
		return err
	}
	if err := at.fill(b.binary, b.dir, "idle", "none.json"); err != nil {
		return err
	}
	cmd := exec.Command(b.binary, "run", "--queue-name", "idle", "--idle-timeout", "0", "--", "/bin/true")
	cmd.Dir, cmd.Env = b.dir, append(os.Environ(), at.env...)
	if err := cmd.Start(); err != nil {
		return err
	}
	// Exclude the cost of the start.
	time.Sleep(2 * time.Second) //nolint:forbidigo // there is no event to wait for
	cpu, requests := cpuOf(cmd.Process.Pid), at.requests()
	time.Sleep(span) //nolint:forbidigo // duration of the measurement
	cpu, requests = cpuOf(cmd.Process.Pid)-cpu, at.requests()-requests
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_ = cmd.Wait() // the exit code is 143, that of SIGTERM
	share := cpu.Seconds() / span.Seconds()
	fmt.Printf("a worker on an empty queue, %s: %.2f %% of a CPU, %d requests per minute\n", name, 100*share, requests)
	b.report.Rows = append(b.report.Rows, row{Section: "idle", Name: name, Source: name, Wall: span.Seconds(), CPU: cpu.Seconds(), RequestsPerTask: math.Round(float64(requests))})
	return nil
}
