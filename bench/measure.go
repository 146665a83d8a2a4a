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

// contender is one way to do some work.
type contender struct {
	name string
	argv []string
	env  []string // beside this program's
	// tasks is how many it runs.
	tasks int64
	// stdin writes what it reads; nil: nothing.
	stdin func(io.Writer) error
	// before and after surround each run, unmeasured; requests is how many requests a
	// server has had so far. Any may be nil.
	before, after func() error
	requests      func() int
	// untilTold has the time end with the last event and not with the process, which
	// waits for an open request to a queue that it must not leave behind.
	untilTold bool
	runs      []sample
}

// sample is one run.
type sample struct {
	wall, cpu time.Duration // cpu: with all children
	// What ctworker says of itself: its own CPU time and peak memory, and how long
	// tasks took from being received to being told of. Zero where it is another program.
	own      time.Duration
	peak     int64
	p50, p99 time.Duration
	requests int
}

func (c *contender) rate(s sample) float64 { return float64(c.tasks) / s.wall.Seconds() }

// inTurn runs the contenders one after the other, once to warm up and then as many
// rounds as are asked for.
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
			_ = c.stdin(w) // whoever reads it says what is missing
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
	if err := s.hear(out.Bytes(), c.tasks); err != nil {
		return s, err
	}
	if c.untilTold {
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

// hear takes what ctworker says of the run from its log.
func (s *sample) hear(log []byte, tasks int64) error {
	for line := range bytes.Lines(log) {
		if !bytes.Contains(line, []byte(`"message":"run ended"`)) {
			continue
		}
		var said struct {
			Completed int64   `json:"completed"`
			P50       float64 `json:"latency_p50_seconds"`
			P99       float64 `json:"latency_p99_seconds"`
			CPU       float64 `json:"engine_cpu_seconds"`
			Peak      int64   `json:"engine_peak_memory_bytes"`
		}
		if err := json.Unmarshal(line, &said); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if said.Completed != tasks {
			return fmt.Errorf("%d of %d tasks completed: %s", said.Completed, tasks, log)
		}
		s.own, s.peak, s.p50, s.p99 = seconds(said.CPU), said.Peak, seconds(said.P50), seconds(said.P99)
	}
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// spin is how long a fixed amount of work takes, as a measure of the machine's mood.
func spin() time.Duration {
	began := time.Now()
	x := uint64(1)
	for range 200_000_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	if x == 0 { // never, but the loop is not left out
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
	_, _ = w.WriteString("\n]\n") // an error is kept
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

// output is what a command prints, or what is wrong with it.
func output(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		return "not there"
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return first
}
