package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// contender is a command to measure.
type contender struct {
	name string
	argv []string
	env  []string // in addition to the environment of this program
	// tasks is the number of tasks that the command runs.
	tasks int64
	// stdin writes the standard input of the command. It may be nil.
	stdin func(io.Writer) error
	// The function before is called before each run, and the function after is called after each
	// run. The measured time does not include these calls. requests returns the number of requests
	// that the server has received. Each of these functions may be nil.
	before, after func() error
	requests      func() int
	// untilLastEvent ends the measured time at the last event instead of the exit of the process.
	// After the last event, the process still waits for the end of a receive request.
	untilLastEvent bool
	runs           []sample
}

// sample is the measurement of one run.
type sample struct {
	wall, cpu time.Duration // cpu includes all child processes
	// The fields own, peak, p50 and p99 describe ctworker itself, and come from its log. own is its
	// CPU time, and peak its peak memory. p50 and p99 are percentiles of the time from receiving a
	// task to writing its event. For other programs, these four fields are zero.
	own      time.Duration
	peak     int64
	p50, p99 time.Duration
	requests int
}

func (c *contender) rate(s sample) float64 { return float64(c.tasks) / s.wall.Seconds() }

// inTurn runs the contenders one after the other, in each of b.rounds rounds. A first round, the
// warm-up, is not recorded.
func (b *bench) inTurn(cs []*contender) error {
	for round := range b.rounds + 1 {
		for _, c := range cs {
			s, err := b.once(c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 {
				c.runs = append(c.runs, s)
			}
		}
	}
	return nil
}

func (b *bench) once(c *contender) (s sample, err error) {
	if c.before != nil {
		if err := c.before(); err != nil {
			return s, err
		}
	}
	_ = os.Remove(filepath.Join(b.dir, "events.log"))
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), c.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if c.stdin != nil {
		pipe, err := cmd.StdinPipe()
		if err != nil {
			return s, err
		}
		go func() {
			w := bufio.NewWriterSize(pipe, 64<<10)
			_ = c.stdin(w) // if this fails, the command reports the missing input
			_ = w.Flush()
			_ = pipe.Close()
		}()
	}
	if c.requests != nil {
		s.requests = -c.requests()
	}
	began := time.Now()
	err = cmd.Run()
	s.wall = time.Since(began)
	if err != nil {
		return s, fmt.Errorf("%w: %s", err, out.Bytes())
	}
	if c.requests != nil {
		s.requests += c.requests()
	}
	s.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if err := s.parseLog(out.Bytes(), c.tasks); err != nil {
		return s, err
	}
	if c.untilLastEvent {
		times, err := eventTimes(filepath.Join(b.dir, "events.log"))
		if err != nil {
			return s, err
		}
		s.wall = times[len(times)-1].Sub(began)
	}
	if c.after != nil {
		return s, c.after()
	}
	return s, nil
}

// parseLog reads the summary of the run from the log of ctworker. It does nothing for other
// programs, whose logs have no summary.
func (s *sample) parseLog(log []byte, tasks int64) error {
	for line := range bytes.Lines(log) {
		if !bytes.Contains(line, []byte(`"message":"run ended"`)) {
			continue
		}
		var summary struct {
			Completed int64   `json:"completed"`
			P50       float64 `json:"latency_p50_seconds"`
			P99       float64 `json:"latency_p99_seconds"`
			CPU       float64 `json:"engine_cpu_seconds"`
			Peak      int64   `json:"engine_peak_memory_bytes"`
		}
		if err := json.Unmarshal(line, &summary); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if summary.Completed != tasks {
			return fmt.Errorf("%d of %d tasks completed: %s", summary.Completed, tasks, log)
		}
		s.own, s.peak, s.p50, s.p99 = seconds(summary.CPU), summary.Peak, seconds(summary.P50), seconds(summary.P99)
	}
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// spin runs a fixed amount of work and returns its duration. Differences between calls show how
// much other programs disturb the measurements.
func spin() time.Duration {
	began := time.Now()
	x := uint64(1)
	for range 200_000_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	if x == 0 { // never true; keeps the compiler from removing the loop
		fmt.Println(x)
	}
	return time.Since(began)
}

func median[T int | int64 | time.Duration | float64](all []T) T {
	if len(all) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(all))[len(all)/2]
}

func spread(all []time.Duration) string {
	return fmt.Sprintf("%.2f to %.2f s (%.2f ×)", slices.Min(all).Seconds(), slices.Max(all).Seconds(), slices.Max(all).Seconds()/slices.Min(all).Seconds())
}

func column[T, U any](all []T, f func(T) U) []U {
	var col []U
	for _, each := range all {
		col = append(col, f(each))
	}
	return col
}

// taskFile writes a JSON array of n tasks of about 70 bytes.
func (b *bench) taskFile(name string, n int64) error {
	f, err := os.Create(filepath.Join(b.dir, name))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	_, err = w.WriteString("[\n")
	separator := ""
	for i := int64(0); i < n && err == nil; i++ {
		_, err = fmt.Fprintf(w, "%s%s", separator, taskText(i))
		separator = ",\n"
	}
	_, _ = w.WriteString("\n]\n") // Flush returns an error of this write
	if flush := w.Flush(); err == nil {
		err = flush
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

func taskText(i int64) string {
	return fmt.Sprintf(`{"task_id": "task-%08d", "data": {"num1": %8d, "num2": %8d}}`, i, i, 2*i)
}

// lines writes n tasks as JSON lines.
func lines(n int64) func(io.Writer) error {
	return func(w io.Writer) error {
		for i := range n {
			if _, err := io.WriteString(w, taskText(i)+"\n"); err != nil {
				return err
			}
		}
		return nil
	}
}

// output returns the first line that a command prints.
func output(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		return "not available"
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return first
}
