package procexec_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/procexec"
)

// poolRun is one run of a pool, with what came of its tasks.
type poolRun struct {
	t    *testing.T
	in   chan procexec.Task
	err  chan error
	stop chan struct{}
	term chan struct{}
	kill chan struct{}
	lost map[string]chan struct{}

	mu     sync.Mutex
	done   map[string]procexec.TaskResult
	order  []string
	back   []string
	failed error
	stalls int
	news   chan string // an id for each task that is over
}

// startPool runs the test binary as a worker process in a pool.
func startPool(t *testing.T, child string, opts procexec.PoolOptions) *poolRun {
	t.Helper()
	return startImpatientPool(t, child, opts, 0)
}

func startImpatientPool(t *testing.T, child string, opts procexec.PoolOptions, grace time.Duration) *poolRun {
	t.Helper()
	l := newLauncher(t, procexec.Options{Slots: max(opts.Slots, 1)})
	opts.Argv = []string{self(t)}
	opts.Env = append(os.Environ(), childVar+"="+child, "GORACE=atexit_sleep_ms=0")
	pool, err := procexec.NewPool(l, opts)
	if err != nil {
		t.Fatal(err)
	}
	r := &poolRun{
		t: t, in: make(chan procexec.Task, 10_000), err: make(chan error, 1),
		stop: make(chan struct{}), term: make(chan struct{}), kill: make(chan struct{}),
		lost: map[string]chan struct{}{}, done: map[string]procexec.TaskResult{}, news: make(chan string, 10_000),
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		r.err <- procexec.Run(pool, procexec.RunConfig[procexec.Task]{
			Jobs: r.in, Task: func(task procexec.Task) procexec.Task { return task },
			Lost: func(task procexec.Task) <-chan struct{} {
				r.mu.Lock()
				defer r.mu.Unlock()
				if c, ok := r.lost[task.ID]; ok {
					return c
				}
				return nil
			},
			OnDone: func(task procexec.Task, report procexec.TaskResult) {
				r.mu.Lock()
				if _, twice := r.done[task.ID]; twice {
					t.Errorf("%s is done twice", task.ID)
				}
				r.done[task.ID] = report
				r.order = append(r.order, task.ID)
				r.mu.Unlock()
				r.news <- task.ID
			},
			OnRelease: func(task procexec.Task) {
				r.mu.Lock()
				r.back = append(r.back, task.ID)
				r.mu.Unlock()
				r.news <- task.ID
			},
			MaxQueueTime: grace,
			OnStall:      func() { r.mu.Lock(); r.stalls++; r.mu.Unlock() },
			OnError:      func(err error) { r.mu.Lock(); r.failed = err; r.mu.Unlock() },
		}, procexec.StopSignals{NoNewTasks: r.stop, Terminate: r.term, Kill: r.kill})
	}()
	return r
}

// put hands over tasks named t0, t1 and so on.
func (r *poolRun) put(orders ...order) {
	for i, o := range orders {
		r.putAs(fmt.Sprintf("t%d", i), o)
	}
}

func (r *poolRun) putAs(id string, o order) {
	data, err := json.Marshal(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.in <- procexec.Task{ID: id, Attempt: 1, Data: data}
}

// await waits until so many tasks are over.
func (r *poolRun) await(n int) {
	r.t.Helper()
	for i := range n {
		receive(r.t, r.news, fmt.Sprintf("task %d of %d", i+1, n))
	}
}

// wait waits for the end of the run.
func (r *poolRun) wait() error {
	r.t.Helper()
	return receive(r.t, r.err, "the run's end")
}

// all runs orders to their end and returns the reports.
func (r *poolRun) all(orders ...order) []procexec.TaskResult {
	r.t.Helper()
	r.put(orders...)
	close(r.in)
	if err := r.wait(); err != nil {
		r.t.Fatal(err)
	}
	var reports []procexec.TaskResult
	for i := range orders {
		report, ok := r.done[fmt.Sprintf("t%d", i)]
		if !ok {
			r.t.Fatalf("t%d is not done", i)
		}
		reports = append(reports, report)
	}
	return reports
}

// What comes of a task, in a process that takes tasks ahead and in one that does
// not, in one that stays and in one for each task.
func TestPoolReports(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		do   order
		want procexec.TaskResult
		text string // in the exception
	}{
		{name: "a result", do: order{Do: "count"}, want: procexec.TaskResult{Kind: procexec.Completed, Result: []byte("1")}},
		{name: "no result", do: order{}, want: procexec.TaskResult{Kind: procexec.Completed, Result: []byte("null")}},
		{name: "retry", do: order{Do: "retry", Arg: "é\n"}, want: procexec.TaskResult{Kind: procexec.Completed, RetryRequested: true, Result: []byte(`"é\n"`)}},
		{name: "the attempt", do: order{Do: "attempt"}, want: procexec.TaskResult{Kind: procexec.Completed, Result: []byte("1")}},
		{name: "an exception", do: order{Do: "raise", Arg: "boom\nat x"}, want: procexec.TaskResult{Kind: procexec.Failed, Exception: "boom\nat x"}},
		{name: "an exception for good", do: order{Do: "raise for good", Arg: "oom"}, want: procexec.TaskResult{Kind: procexec.Failed, Exception: "oom", Permanent: true}},
		{name: "an exit", do: order{Do: "exit", N: 3}, want: procexec.TaskResult{Kind: procexec.Exited, ExitCode: 3}},
		{name: "an exit with 0", do: order{Do: "exit"}, want: procexec.TaskResult{Kind: procexec.Exited}},
		{name: "a signal", do: order{Do: "kill"}, want: procexec.TaskResult{Kind: procexec.Exited, ExitCode: -9}},
		{name: "a large result", do: order{Do: "big", N: 1000}, want: procexec.TaskResult{Kind: procexec.Completed, Result: []byte(`"` + strings.Repeat("x", 1000) + `"`)}},
		{name: "a result that is too large", do: order{Do: "big", N: 2000}, want: procexec.TaskResult{Kind: procexec.Failed}, text: "exceeds 1024 bytes"},
		{name: "one that is far too large", do: order{Do: "big", N: 3 << 20}, want: procexec.TaskResult{Kind: procexec.Failed}, text: "exceeds 1024 bytes"},
		{name: "rubbish", do: order{Do: "say", Arg: "Traceback (most recent call last)\n"}, want: procexec.TaskResult{Kind: procexec.Failed}, text: `"Traceback (most recent call last)"`},
		{name: "endless rubbish", do: order{Do: "say", Arg: strings.Repeat("y", 1<<20)}, want: procexec.TaskResult{Kind: procexec.Failed}, text: `"yyyyy`},
		{name: "another task's reply", do: order{Do: "say", Arg: `{"task_id":"t9","result":1}` + "\n"}, want: procexec.TaskResult{Kind: procexec.Failed}, text: `must be for the task "t0"`},
		{name: "a return that was not asked for", do: order{Do: "say", Arg: `{"task_id":"t0","returned":true}` + "\n"}, want: procexec.TaskResult{Kind: procexec.Failed}, text: "no revoked task with that id"},
		{name: "a second ready", do: order{Do: "say", Arg: `{"ready":{"version":1}}` + "\n"}, want: procexec.TaskResult{Kind: procexec.Failed}, text: `second "ready"`},
		{name: "a time-out", do: order{Do: "hang", Arg: os.DevNull}, want: procexec.TaskResult{Kind: procexec.TimedOut}},
		{name: "a grandchild that holds the socket", do: order{Do: "grandchild and exit", N: 4}, want: procexec.TaskResult{Kind: procexec.Exited, ExitCode: 4}},
	} {
		for _, child := range []string{"worker", "worker-ahead", "worker-ring"} {
			for _, maxTasks := range []int{0, 1, 2} {
				t.Run(fmt.Sprint(tc.name, ", ", child, ", ", maxTasks), func(t *testing.T) {
					t.Parallel()
					opts := procexec.PoolOptions{MaxTasks: maxTasks, MaxResult: 1024, KillDelay: 100 * time.Millisecond}
					if tc.want.Kind == procexec.TimedOut {
						opts.MaxRuntime = 300 * time.Millisecond
					}
					r := startPool(t, child, opts)
					reports := r.all(tc.do, order{Do: "pid"}) // and another one is run after it
					got := reports[0]
					if got.Kind != tc.want.Kind || got.RetryRequested != tc.want.RetryRequested || got.Permanent != tc.want.Permanent || got.ExitCode != tc.want.ExitCode ||
						string(got.Result) != string(tc.want.Result) || tc.text == "" && got.Exception != tc.want.Exception || !strings.Contains(got.Exception, tc.text) {
						t.Errorf("%+v, want %+v", got, tc.want)
					}
					if got.Elapsed <= 0 || (maxTasks == 1) != (got.PeakMemory > 0) {
						t.Errorf("elapsed %v, peak memory %d", got.Elapsed, got.PeakMemory)
					}
					if reports[1].Kind != procexec.Completed {
						t.Errorf("the next task: %+v", reports[1])
					}
				})
			}
		}
	}
}

// A process runs task after task, as many as it may.
func TestPoolReplaces(t *testing.T) {
	t.Parallel()
	for _, child := range []string{"worker", "worker-ahead", "worker-ring"} {
		for maxTasks, want := range map[int]int{0: 1, 1: 31, 3: 11, 31: 1} {
			t.Run(fmt.Sprint(child, ", ", maxTasks), func(t *testing.T) {
				t.Parallel()
				orders := slices.Repeat([]order{{Do: "pid"}}, 31)
				pids := map[string]int{}
				for _, report := range startPool(t, child, procexec.PoolOptions{MaxTasks: maxTasks}).all(orders...) {
					pids[string(report.Result)]++
				}
				if len(pids) != want {
					t.Errorf("%d processes, want %d", len(pids), want)
				}
				for pid, n := range pids {
					if maxTasks > 0 && n > maxTasks {
						t.Errorf("process %s ran %d tasks", pid, n)
					}
				}
			})
		}
	}
}

// Whatever dies, every task is told of once, in the right way.
func TestPoolExactCounts(t *testing.T) {
	t.Parallel()
	for _, child := range []string{"worker", "worker-ahead", "worker-ring"} {
		t.Run(child, func(t *testing.T) {
			t.Parallel()
			n := 200
			var orders []order
			for i := range n {
				o := order{Do: "count"}
				switch i % 10 {
				case 3:
					o = order{Do: "kill"}
				case 7:
					o = order{Do: "exit", N: 5}
				}
				orders = append(orders, o)
			}
			for i, report := range startPool(t, child, procexec.PoolOptions{Slots: 4, MaxTasks: 20}).all(orders...) {
				want := procexec.TaskResult{Kind: procexec.Completed}
				switch i % 10 {
				case 3:
					want = procexec.TaskResult{Kind: procexec.Exited, ExitCode: -9}
				case 7:
					want = procexec.TaskResult{Kind: procexec.Exited, ExitCode: 5}
				}
				if report.Kind != want.Kind || report.ExitCode != want.ExitCode {
					t.Errorf("t%d: %+v", i, report)
				}
			}
		})
	}
}

// No task waits behind a long one while a slot is idle, be it handed over
// already.
func TestPoolNothingWaitsBehindALongTask(t *testing.T) {
	t.Parallel()
	for child, slots := range map[string]int{"worker-ahead": 2, "worker-ring": 3} {
		t.Run(child, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "go on")
			r := startPool(t, child, procexec.PoolOptions{Slots: slots})
			const short = 3000
			for i := range short { // so many short ones that much is handed over ahead
				if i == short/2 {
					r.putAs("long", order{Do: "await", Arg: file})
				}
				r.putAs(fmt.Sprintf("t%d", i), order{})
			}
			close(r.in)
			r.await(short)
			r.mu.Lock()
			if _, over := r.done["long"]; over {
				t.Error("the long task is over")
			}
			r.mu.Unlock()
			said(file)
			if err := r.wait(); err != nil {
				t.Error(err)
			}
			if r.done["long"].Kind != procexec.Completed || len(r.done) != short+1 {
				t.Errorf("%+v of %d", r.done["long"], len(r.done))
			}
		})
	}
}

// Nor does one wait for the process to end that runs a long one, where each has a process
// of its own; and with no slot idle, it is given back.
func TestPoolNothingWaitsForALongProcess(t *testing.T) {
	t.Parallel()
	const grace = 100 * time.Millisecond
	file := filepath.Join(t.TempDir(), "go on")
	r := startImpatientPool(t, "worker", procexec.PoolOptions{Slots: 2, MaxTasks: 1}, grace)
	r.putAs("long0", order{Do: "await", Arg: file})
	const short = 8
	for i := range short {
		r.putAs(fmt.Sprintf("t%d", i), order{})
	}
	r.await(short)
	r.putAs("long1", order{Do: "await", Arg: file})
	awaitFile(t, file+".begun")
	r.putAs("others could", order{Do: "await", Arg: file})
	for rested := 0; rested < 3; { // given back, or never taken
		<-time.After(grace)
		r.mu.Lock()
		rested++
		// Others may have been given back before, while the first processes started.
		if !slices.Contains(r.back, "others could") && len(r.in) != 1 {
			rested = 0
		}
		r.mu.Unlock()
	}
	said(file)
	close(r.in)
	if err := r.wait(); err != nil || len(r.done)+len(r.back) != short+3 {
		t.Errorf("%v, %d done, %q back", err, len(r.done), r.back)
	}
}

// What others could run does not wait long behind tasks that take long in every slot.
func TestPoolPatience(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "go on")
	const short, waiting, grace = 3000, 50, 100 * time.Millisecond
	r := startImpatientPool(t, "worker-ring", procexec.PoolOptions{Slots: 2}, grace)
	for i := range short {
		r.putAs(fmt.Sprintf("t%d", i), order{})
	}
	r.await(short)
	for i := range waiting {
		r.putAs(fmt.Sprintf("long%d", i), order{Do: "await", Arg: file})
	}
	// What has been handed ahead comes back, as nothing ends; the others stay where they
	// are. On a slow machine nothing is handed ahead.
	for rested := 0; rested < 3; {
		<-time.After(grace)
		r.mu.Lock()
		rested++
		if len(r.back)+len(r.in) != waiting-2 {
			rested = 0
		}
		r.mu.Unlock()
	}
	r.mu.Lock()
	if (r.stalls == 0) != (len(r.back) == 0) {
		t.Errorf("%d are back after %d stalls", len(r.back), r.stalls)
	}
	r.mu.Unlock()
	said(file)
	close(r.in)
	if err := r.wait(); err != nil || len(r.done)+len(r.back) != short+waiting {
		t.Errorf("%v, %d done, %d back", err, len(r.done), len(r.back))
	}
}

// A stop gives back at once what has not begun, and lets run what has.
func TestPoolStop(t *testing.T) {
	t.Parallel()
	for _, child := range []string{"worker", "worker-ahead", "worker-ring"} {
		t.Run(child, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "go on")
			r := startPool(t, child, procexec.PoolOptions{})
			const before = 200
			for i := range before {
				r.putAs(fmt.Sprintf("t%d", i), order{})
			}
			r.putAs("long", order{Do: "await", Arg: file})
			for i := range 100 {
				r.putAs(fmt.Sprintf("late%d", i), order{})
			}
			r.await(before)
			awaitFile(t, file+".begun")
			close(r.stop)
			var late int
			for range 200 { // what it has taken in comes back though the long task goes on
				if r.mu.Lock(); len(r.back) > 0 || len(r.in) == 100 {
					late = len(r.back)
					r.mu.Unlock()
					break
				}
				r.mu.Unlock()
				<-time.After(10 * time.Millisecond)
			}
			said(file)
			if err := r.wait(); err != nil {
				t.Error(err)
			}
			if r.done["long"].Kind != procexec.Completed || len(r.done) != before+1 || late+len(r.in) == 0 || len(r.back)+len(r.in) != 100 {
				t.Errorf("%+v; %d done, %d given back, %d never taken", r.done["long"], len(r.done), len(r.back), len(r.in))
			}
		})
	}
}

// Term asks what runs to end, Kill kills it, and Lost kills one task.
func TestPoolEnds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		end  func(*poolRun)
		want procexec.ExitKind
	}{
		{"term", func(r *poolRun) { close(r.term) }, procexec.Interrupted},
		{"kill", func(r *poolRun) { close(r.kill) }, procexec.Interrupted},
		{"lost", func(r *poolRun) { close(r.lost["t0"]); close(r.in) }, procexec.LeaseLost},
	} {
		for _, maxTasks := range []int{0, 1} {
			t.Run(fmt.Sprint(tc.name, maxTasks), func(t *testing.T) {
				t.Parallel()
				begun := filepath.Join(t.TempDir(), "begun")
				r := startPool(t, "worker-ring", procexec.PoolOptions{MaxTasks: maxTasks, KillDelay: time.Second})
				r.lost["t0"] = make(chan struct{})
				r.put(order{Do: "hang", Arg: begun})
				awaitFile(t, begun)
				tc.end(r)
				if err := r.wait(); err != nil {
					t.Error(err)
				}
				if got := r.done["t0"]; got.Kind != tc.want {
					t.Errorf("%+v", got)
				}
			})
		}
	}
}

// A process that has replied has the kill delay to exit, and its reply stands.
func TestPoolLeavesTimeToExit(t *testing.T) {
	t.Parallel()
	reports := startPool(t, "worker", procexec.PoolOptions{MaxTasks: 1, KillDelay: 200 * time.Millisecond}).all(order{Do: "reply and hang"})
	if r := reports[0]; r.Kind != procexec.Completed || string(r.Result) != `"before"` || r.Elapsed < 200*time.Millisecond {
		t.Errorf("%+v", r)
	}
}

// Starts that fail end the run in words, and no task is taken for run.
func TestPoolStartsThatFail(t *testing.T) {
	t.Parallel()
	for child, want := range map[string]string{
		"worker-silent":  "did not become ready within 300ms",
		"worker-early":   "exited with code 7",
		"worker-old":     "version 7",
		"worker-rude":    `the first line must be "ready"`,
		"worker-quitter": "after it was ready",
		"worker-crasher": "exited with code 1",
		"worker-deaf":    "did not begin a task within 3s",
		"worker-ringing": "did not begin a task within 3s",
	} {
		start := 3 * time.Second // enough to report that it is ready, on a busy machine
		if child == "worker-silent" {
			start = 300 * time.Millisecond
		}
		// MaxRuntime does not apply to a task that has not begun, however short it is.
		for _, maxRuntime := range []time.Duration{0, 100 * time.Millisecond} {
			t.Run(fmt.Sprint(child, maxRuntime), func(t *testing.T) {
				t.Parallel()
				r := startPool(t, child, procexec.PoolOptions{Slots: 2, StartTimeout: start, MaxRuntime: maxRuntime, KillDelay: -1})
				r.put(order{}, order{}, order{})
				err := r.wait()
				failed := (*procexec.StartFailedError)(nil)
				if !errors.As(err, &failed) || failed.Times != 5 || !strings.Contains(err.Error(), want) || !errors.Is(r.failed, err) {
					t.Errorf("error %v, want %q; Failed was called with %v", err, want, r.failed)
				}
				if len(r.done) > 0 || len(r.back)+len(r.in) != 3 {
					t.Errorf("%v done, %v released", r.done, r.back)
				}
			})
		}
	}
}

func TestNoPlaceholders(t *testing.T) {
	t.Parallel()
	if err := procexec.CheckNoPlaceholders([]string{"sh", "{task_id}"}); err == nil || !strings.Contains(err.Error(), "--isolation reuse") {
		t.Errorf("error %v", err)
	}
	if err := procexec.CheckNoPlaceholders([]string{"sh", "{id}"}); err != nil {
		t.Error(err)
	}
}

// awaitFile waits for a file to appear.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(long); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	t.Fatalf("waited %v for %s", long, path)
}
