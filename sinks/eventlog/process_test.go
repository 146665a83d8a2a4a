package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/eventlog"
)

// children contains the functions that the test binary can run in a separate process.
var children = map[string]func(args []string){
	"write": func(args []string) {
		if err := writeMuch(args[0], args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	},
	"fill": fill,
}

// run runs the test binary as a child and returns what it printed.
func run(t *testing.T, what string, args ...string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), child+"="+what)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("child %q: %v\n%s", what, err, out)
	}
	return string(out)
}

const (
	opens    = 6 // number of logs that each writer opens, one after the other
	writes   = 5 // number of calls of Write per log
	together = 3 // number of events per call of Write
)

// writeMuch writes events of different sizes and reopens the log repeatedly. When a log is opened, a
// line that another process is writing may look truncated.
func writeMuch(path, name string) error {
	ctx := context.Background()
	for o := range opens {
		l, err := eventlog.Open(ctx, path, eventlog.Options{})
		if err != nil {
			return err
		}
		for w := range writes {
			var events []pipeline.Event
			for i := range together {
				size := []int{0, 100, 5000, 150_000}[(o+w+i)%4]
				events = append(events, event(fmt.Sprintf("%s-%d-%d-%d", name, o, w, i), size))
			}
			if err := l.Write(ctx, events); err != nil {
				return err
			}
		}
		if err := l.Close(ctx); err != nil {
			return err
		}
	}
	return nil
}

func TestManyWritersShareAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.log")
	const processes, goroutines = 2, 3
	var writers sync.WaitGroup
	for p := range processes {
		writers.Go(func() { run(t, "write", path, fmt.Sprint("process", p)) })
	}
	for g := range goroutines {
		writers.Go(func() {
			if err := writeMuch(path, fmt.Sprint("goroutine", g)); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	seen := map[string]bool{}
	for _, line := range lines(t, path) {
		id := exception(t, line) // fails for an empty line too
		if seen[id] {
			t.Errorf("event %s is there twice", id)
		}
		seen[id] = true
	}
	if want := (processes + goroutines) * opens * writes * together; len(seen) != want {
		t.Errorf("%d events are there, want %d", len(seen), want)
	}
}

const limit = 100_000

// fill writes until the file has reached its maximum size, and prints the errors.
func fill(args []string) {
	rlimit := syscall.Rlimit{Cur: limit, Max: limit}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &rlimit); err != nil {
		fmt.Println("setrlimit:", err)
		os.Exit(1)
	}
	l, err := eventlog.Open(context.Background(), args[0], eventlog.Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := range 100 {
		if err = l.Write(context.Background(), []pipeline.Event{event(fmt.Sprint(i), 3000)}); err != nil {
			break
		}
	}
	fmt.Println(errors.Is(err, syscall.EFBIG), err)
	// Now the file has space again, but the rest of the truncated line is not written.
	if err := os.Truncate(args[0], 50_000); err != nil {
		fmt.Println(err)
	}
	fmt.Println(l.Write(context.Background(), []pipeline.Event{event("late", 10)}))
	fmt.Println(l.Close(context.Background()))
}

func TestAFileThatMayNotGrow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.log")
	out := strings.Split(run(t, "fill", path), "\n")
	want := "event log: write " + path + ": file too large; the file has reached the maximum allowed size: " +
		"use another --event-log-file, then run the tasks without an event again (its last line may be incomplete)"
	if len(out) != 4 || out[0] != "true "+want || out[1] != want || out[2] != "<nil>" {
		t.Fatalf("the child printed\n%s\nwant twice\n%s", strings.Join(out, "\n"), want)
	}
	if got := read(t, path); len(got) != 50_000 || strings.Contains(got, "late") {
		t.Errorf("the file has %d bytes after Writes that failed, want 50000", len(got))
	}
	// The next run appends after the truncated line.
	l := open(t, path)
	write(t, l, event("next run", 0))
	closeLog(t, l)
	all := lines(t, path)
	for i, line := range all {
		want := fmt.Sprint(i)
		switch i {
		case len(all) - 2:
			continue // cut off
		case len(all) - 1:
			want = "next run"
		}
		if got := exception(t, line); got != want {
			t.Errorf("line %d is of %q, want %q", i, got, want)
		}
	}
}
