package stages_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// fullVar is the environment variable that makes TestExactCounts run its full number of tasks.
const fullVar = "CTWORKER_FULL"

// The test runs tasks of which a third crash (by exit code or SIGKILL), a third time out, and a
// third complete. Each task must be reported exactly once with the right outcome. No descriptor,
// goroutine or process may remain. The test is not parallel, because it counts the resources of its
// whole process.
func TestExactCounts(t *testing.T) {
	n := 1_200
	if os.Getenv(fullVar) == "1" {
		n = 20_000
	}
	blocked := filepath.Join(t.TempDir(), "fifo") // reading it blocks, so a task that reads it times out
	if err := syscall.Mkfifo(blocked, 0o600); err != nil {
		t.Fatal(err)
	}
	script := `
		case $(($1 % 6)) in
		0|3) echo "$1" ;;
		1|4) read -r x <"$2" ;;
		2) exit 3 ;;
		5) kill -9 $$ ;;
		esac`
	guard, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	work := func(n int) (*recorder, stages.Counts) {
		rec := &recorder{}
		var counted stages.Stats
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 256, Prefetch: 64})
		l, err := procexec.NewLauncher(procexec.Options{Guard: []string{guard}, Subreaper: true})
		if err != nil {
			t.Fatal(err)
		}
		c, err := procexec.NewCommand(l, procexec.CommandOptions{
			Argv: []string{"/bin/sh", "-c", script, "sh", "{task_id}", blocked}, MaxRuntime: 2 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		results := pipeline.Via(pipeline.From(r, "source", &source{Rec: rec, N: n}), "execute", stages.Execute(r, stages.Command(c)))
		decisions := pipeline.Map(results, "classify", stages.Classify(stages.RetryOptions{OnTimeout: true}))
		pipeline.ToBatches(decisions, "settle", stages.Settle(sink{Rec: rec}, stages.SettleOptions{Stats: &counted}))
		if err := r.Wait(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		return rec, counted.Counts()
	}
	work(6) // opens the descriptors that stay open for the life of this process
	before := countResources(t)
	began := time.Now()
	rec, counts := work(n)
	t.Logf("%d tasks in %v", n, time.Since(began).Round(time.Millisecond))

	third := int64(n / 3)
	of := func(rest int) int64 { // number of tasks whose ID modulo 3 is rest
		if n%3 > rest {
			return third + 1
		}
		return third
	}
	counts.CPU, counts.PeakMemory = 0, 0
	if diff := cmp.Diff(stages.Counts{Completed: of(0), TimedOut: of(1), Exited: of(2), Retried: of(1)}, counts); diff != "" {
		t.Error(diff)
	}
	lines := make(map[string]int)
	for _, line := range rec.Lines() {
		lines[line]++
	}
	for i := range n {
		event, settled := "task_completed", fmt.Sprint("ack ", i)
		switch i % 3 {
		case 1:
			event, settled = "task_timed_out", fmt.Sprintf("release %d 0s", i)
		case 2:
			event = "task_exited"
		}
		if reported := fmt.Sprintf("event %d %s", i, event); lines[reported] != 1 || lines[settled] != 1 {
			t.Errorf("%d times %q and %d times %q, want once each", lines[reported], reported, lines[settled], settled)
		}
	}
	if len(lines) != 2*n {
		t.Errorf("%d lines, want %d", len(lines), 2*n)
	}
	for _, e := range rec.Events() {
		i, _ := strconv.Atoi(e.TaskID)
		want := pipeline.Outcome{Kind: pipeline.TimedOut}
		switch i % 6 {
		case 0, 3:
			want = pipeline.Outcome{Kind: pipeline.Completed, Result: []byte(`"` + e.TaskID + `"`)}
		case 2:
			want = pipeline.Outcome{Kind: pipeline.Exited, ExitCode: 3}
		case 5:
			want = pipeline.Outcome{Kind: pipeline.Exited, ExitCode: -9}
		}
		if o := e.Outcome; o.Kind != want.Kind || o.ExitCode != want.ExitCode || !bytes.Equal(o.Result, want.Result) || o.Usage == nil {
			t.Errorf("task %d: %+v, want %+v", i, o, want)
		}
	}
	after := countResources(t)
	for deadline := time.Now().Add(10 * time.Second); after.goroutines > before.goroutines && time.Now().Before(deadline); after = countResources(t) {
		runtime.Gosched() // lets goroutines that have finished their work exit
	}
	after.goroutines = max(after.goroutines, before.goroutines) // a lower number is not an error
	if after != before {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// resources are the numbers of resources that this process uses. On a system without /proc, only
// goroutines are counted.
type resources struct{ goroutines, descriptors, children int }

func countResources(t *testing.T) resources {
	t.Helper()
	l := resources{goroutines: runtime.NumGoroutine()}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return l
	}
	l.descriptors = len(fds)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		if err != nil {
			continue // the process ended after the directory was read
		}
		if fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]); string(fields[1]) == strconv.Itoa(os.Getpid()) {
			l.children++
		}
	}
	return l
}
