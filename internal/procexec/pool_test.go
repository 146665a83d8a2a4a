package procexec_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
)

// A task has the right result, for each kind of worker process and several values of MaxTasks.
func TestPool_ReportsResults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		do   action
		want procexec.TaskResult
		text string // a part of the exception's text
	}{
		{name: "a result", do: action{Do: "count"}, want: procexec.TaskResult{Kind: outcome.Completed, Result: []byte("1")}},
		{name: "no result", do: action{}, want: procexec.TaskResult{Kind: outcome.Completed, Result: []byte("null")}},
		{name: "retry", do: action{Do: "retry", Arg: "é\n"}, want: procexec.TaskResult{Kind: outcome.Completed, RetryRequested: true, Result: []byte(`"é\n"`)}},
		{name: "the attempt", do: action{Do: "attempt"}, want: procexec.TaskResult{Kind: outcome.Completed, Result: []byte("1")}},
		{name: "an exception", do: action{Do: "raise", Arg: "boom\nat x"}, want: procexec.TaskResult{Kind: outcome.Exception, Exception: "boom\nat x"}},
		{name: "a permanent exception", do: action{Do: "raise permanently", Arg: "oom"}, want: procexec.TaskResult{Kind: outcome.Exception, Exception: "oom", Permanent: true}},
		{name: "an exit", do: action{Do: "exit", N: 3}, want: procexec.TaskResult{Kind: outcome.Exited, ExitCode: 3}},
		{name: "an exit with 0", do: action{Do: "exit"}, want: procexec.TaskResult{Kind: outcome.Exited}},
		{name: "a signal", do: action{Do: "kill"}, want: procexec.TaskResult{Kind: outcome.Exited, ExitCode: -9}},
		{name: "a large result", do: action{Do: "big", N: 1000}, want: procexec.TaskResult{Kind: outcome.Completed, Result: []byte(`"` + strings.Repeat("x", 1000) + `"`)}},
		{name: "a result that is too large", do: action{Do: "big", N: 2000}, want: procexec.TaskResult{Kind: outcome.Exception}, text: "exceeds 1024 bytes"},
		{name: "a result that is far too large", do: action{Do: "big", N: 3 << 20}, want: procexec.TaskResult{Kind: outcome.Exception}, text: "exceeds 1024 bytes"},
		{name: "a line that is not a reply", do: action{Do: "write", Arg: "Traceback (most recent call last)\n"}, want: procexec.TaskResult{Kind: outcome.Exception}, text: `"Traceback (most recent call last)"`},
		{name: "an endless line", do: action{Do: "write", Arg: strings.Repeat("y", 1<<20)}, want: procexec.TaskResult{Kind: outcome.Exception}, text: `"yyyyy`},
		{name: "another task's reply", do: action{Do: "write", Arg: `{"task_id":"t9","result":1}` + "\n"}, want: procexec.TaskResult{Kind: outcome.Exception}, text: `must be for the task "t0"`},
		{name: "a return of a task that was not revoked", do: action{Do: "write", Arg: `{"task_id":"t0","returned":true}` + "\n"}, want: procexec.TaskResult{Kind: outcome.Exception}, text: "the task was not revoked"},
		{name: "a second ready", do: action{Do: "write", Arg: `{"ready":{"version":1}}` + "\n"}, want: procexec.TaskResult{Kind: outcome.Exception}, text: `second "ready"`},
		{name: "a time-out", do: action{Do: "hang", Arg: os.DevNull}, want: procexec.TaskResult{Kind: outcome.TimedOut}},
		{name: "a grandchild that holds the socket", do: action{Do: "grandchild and exit", N: 4}, want: procexec.TaskResult{Kind: outcome.Exited, ExitCode: 4}},
	} {
		for _, child := range []string{"worker", "worker-ahead", "worker-ring"} {
			for _, maxTasks := range []int{0, 1, 2} {
				t.Run(fmt.Sprint(tc.name, ", ", child, ", ", maxTasks), func(t *testing.T) {
					t.Parallel()
					opts := procexec.PoolOptions{MaxTasks: maxTasks, MaxResult: 1024, KillDelay: 100 * time.Millisecond}
					if tc.want.Kind == outcome.TimedOut {
						opts.MaxRuntime = 300 * time.Millisecond
					}
					r := startPool(t, child, 1, opts)
					results := r.all(tc.do, action{Do: "pid"}) // the second task shows that the pool still works
					got := results[0]
					if got.Kind != tc.want.Kind || got.RetryRequested != tc.want.RetryRequested || got.Permanent != tc.want.Permanent || got.ExitCode != tc.want.ExitCode ||
						string(got.Result) != string(tc.want.Result) || tc.text == "" && got.Exception != tc.want.Exception || !strings.Contains(got.Exception, tc.text) {
						t.Errorf("%+v, want %+v", got, tc.want)
					}
					if got.Elapsed <= 0 || (maxTasks == 1) != (got.PeakMemory > 0) {
						t.Errorf("elapsed %v, peak memory %d", got.Elapsed, got.PeakMemory)
					}
					if results[1].Kind != outcome.Completed {
						t.Errorf("the next task: %+v", results[1])
					}
				})
			}
		}
	}
}

// A process that has run MaxTasks tasks is replaced.
func TestPool_ReplacesProcesses(t *testing.T) {
	t.Parallel()
	for _, child := range []string{"worker", "worker-ahead", "worker-ring"} {
		for maxTasks, want := range map[int]int{0: 1, 1: 31, 3: 11, 31: 1} {
			t.Run(fmt.Sprint(child, ", ", maxTasks), func(t *testing.T) {
				t.Parallel()
				actions := slices.Repeat([]action{{Do: "pid"}}, 31)
				pids := map[string]int{}
				for _, result := range startPool(t, child, 1, procexec.PoolOptions{MaxTasks: maxTasks}).all(actions...) {
					pids[string(result.Result)]++
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

// Each task has exactly one result, and the result is correct, although many processes die.
func TestPool_ReportsEachTaskOnce(t *testing.T) {
	t.Parallel()
	for _, child := range []string{"worker", "worker-ahead", "worker-ring"} {
		t.Run(child, func(t *testing.T) {
			t.Parallel()
			n := 200
			var actions []action
			for i := range n {
				o := action{Do: "count"}
				switch i % 10 {
				case 3:
					o = action{Do: "kill"}
				case 7:
					o = action{Do: "exit", N: 5}
				}
				actions = append(actions, o)
			}
			for i, result := range startPool(t, child, 4, procexec.PoolOptions{MaxTasks: 20}).all(actions...) {
				want := procexec.TaskResult{Kind: outcome.Completed}
				switch i % 10 {
				case 3:
					want = procexec.TaskResult{Kind: outcome.Exited, ExitCode: -9}
				case 7:
					want = procexec.TaskResult{Kind: outcome.Exited, ExitCode: 5}
				}
				if result.Kind != want.Kind || result.ExitCode != want.ExitCode {
					t.Errorf("t%d: %+v", i, result)
				}
			}
		})
	}
}

// A task does not wait behind a long task while another slot is idle, even if the waiting task was
// already sent to the process that runs the long task.
func TestPool_MovesTasksAwayFromLongTask(t *testing.T) {
	t.Parallel()
	for child, slots := range map[string]int{"worker-ahead": 2, "worker-ring": 3} {
		t.Run(child, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "continue")
			r := startPool(t, child, slots, procexec.PoolOptions{})
			const short = 3000
			for i := range short { // so many that the pool sends tasks ahead
				if i == short/2 {
					r.putAs("long", action{Do: "await", Arg: file})
				}
				r.putAs(fmt.Sprintf("t%d", i), action{})
			}
			close(r.in)
			r.await(short)
			r.mu.Lock()
			if _, done := r.done["long"]; done {
				t.Error("the long task is done")
			}
			r.mu.Unlock()
			createFile(file)
			if err := r.wait(); err != nil {
				t.Error(err)
			}
			if r.done["long"].Kind != outcome.Completed || len(r.done) != short+1 {
				t.Errorf("%+v of %d", r.done["long"], len(r.done))
			}
		})
	}
}

// With one task per process, a task does not wait for the exit of a process that runs a long task.
// If no slot is idle, waiting tasks are released.
func TestPool_MovesTasksAwayFromLongProcess(t *testing.T) {
	t.Parallel()
	const grace = 100 * time.Millisecond
	file := filepath.Join(t.TempDir(), "continue")
	r := startPoolWithMaxQueueTime(t, "worker", 2, procexec.PoolOptions{MaxTasks: 1}, grace)
	r.putAs("long0", action{Do: "await", Arg: file})
	const short = 8
	for i := range short {
		r.putAs(fmt.Sprintf("t%d", i), action{})
	}
	r.await(short)
	r.putAs("long1", action{Do: "await", Arg: file})
	awaitFile(t, file+".begun")
	r.putAs("waiting", action{Do: "await", Arg: file})
	// Wait until the task "waiting" is either released or still in the channel in three consecutive
	// checks.
	for rested := 0; rested < 3; {
		<-time.After(grace)
		r.mu.Lock()
		rested++
		// Tasks may also have been released earlier, while the first processes were starting.
		if !slices.Contains(r.released, "waiting") && len(r.in) != 1 {
			rested = 0
		}
		r.mu.Unlock()
	}
	createFile(file)
	close(r.in)
	if err := r.wait(); err != nil || len(r.done)+len(r.released) != short+3 {
		t.Errorf("error %v, %d done, %q released", err, len(r.done), r.released)
	}
}

// If all slots run long tasks, the waiting tasks are released after MaxQueueTime.
func TestPool_ReleasesWaitingTasksAfterMaxQueueTime(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "continue")
	const short, waiting, grace = 3000, 50, 100 * time.Millisecond
	r := startPoolWithMaxQueueTime(t, "worker-ring", 2, procexec.PoolOptions{}, grace)
	for i := range short {
		r.putAs(fmt.Sprintf("t%d", i), action{})
	}
	r.await(short)
	for i := range waiting {
		r.putAs(fmt.Sprintf("long%d", i), action{Do: "await", Arg: file})
	}
	// The running tasks do not end. The pool therefore releases the tasks that it has received but
	// not started, and leaves the others in the channel. On a slow machine, the pool may have
	// received no tasks in advance, and then releases none.
	for rested := 0; rested < 3; {
		<-time.After(grace)
		r.mu.Lock()
		rested++
		if len(r.released)+len(r.in) != waiting-2 {
			rested = 0
		}
		r.mu.Unlock()
	}
	r.mu.Lock()
	if n := r.prefetch.PerProcess(); n > 1 && len(r.released) > 0 {
		t.Errorf("%d tasks were released, but still %d are sent to a process in advance", len(r.released), n)
	}
	r.mu.Unlock()
	createFile(file)
	close(r.in)
	if err := r.wait(); err != nil || len(r.done)+len(r.released) != short+waiting {
		t.Errorf("error %v, %d done, %d released", err, len(r.done), len(r.released))
	}
}

// NoNewTasks immediately releases the tasks that have not begun. The running task can finish.
func TestPool_NoNewTasksReleasesWaitingTasks(t *testing.T) {
	t.Parallel()
	for _, child := range []string{"worker", "worker-ahead", "worker-ring"} {
		t.Run(child, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "continue")
			r := startPool(t, child, 1, procexec.PoolOptions{})
			const before = 200
			for i := range before {
				r.putAs(fmt.Sprintf("t%d", i), action{})
			}
			r.putAs("long", action{Do: "await", Arg: file})
			for i := range 100 {
				r.putAs(fmt.Sprintf("released%d", i), action{})
			}
			r.await(before)
			awaitFile(t, file+".begun")
			close(r.stop)
			var released int
			for range 200 { // waiting tasks must be released while the long task still runs
				if r.mu.Lock(); len(r.released) > 0 || len(r.in) == 100 {
					released = len(r.released)
					r.mu.Unlock()
					break
				}
				r.mu.Unlock()
				<-time.After(10 * time.Millisecond)
			}
			createFile(file)
			if err := r.wait(); err != nil {
				t.Error(err)
			}
			if r.done["long"].Kind != outcome.Completed || len(r.done) != before+1 || released+len(r.in) == 0 || len(r.released)+len(r.in) != 100 {
				t.Errorf("long task %+v; %d done, %d released, %d never received", r.done["long"], len(r.done), len(r.released), len(r.in))
			}
		})
	}
}

// Terminate and Kill end all running tasks. The loss of a lease ends the task that had the lease.
func TestPool_StopSignalsEndTasks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		end  func(*poolRun)
		want outcome.Kind
	}{
		{"term", func(r *poolRun) { close(r.term) }, outcome.Interrupted},
		{"kill", func(r *poolRun) { close(r.kill) }, outcome.Interrupted},
		{"lost", func(r *poolRun) { close(r.lost["t0"]); close(r.in) }, outcome.LeaseLost},
	} {
		for _, maxTasks := range []int{0, 1} {
			t.Run(fmt.Sprint(tc.name, maxTasks), func(t *testing.T) {
				t.Parallel()
				begun := filepath.Join(t.TempDir(), "begun")
				r := startPool(t, "worker-ring", 1, procexec.PoolOptions{MaxTasks: maxTasks, KillDelay: time.Second})
				r.lost["t0"] = make(chan struct{})
				r.put(action{Do: "hang", Arg: begun})
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

// A process that does not exit within the kill delay after its last reply is killed. The last reply
// still counts.
func TestPool_WaitsForExitAfterLastReply(t *testing.T) {
	t.Parallel()
	results := startPool(t, "worker", 1, procexec.PoolOptions{MaxTasks: 1, KillDelay: 200 * time.Millisecond}).all(action{Do: "reply and hang"})
	if r := results[0]; r.Kind != outcome.Completed || string(r.Result) != `"before"` || r.Elapsed < 200*time.Millisecond {
		t.Errorf("%+v", r)
	}
}

// After five consecutive failed starts, Run returns an error and the tasks are released.
func TestPool_FailsAfterRepeatedFailedStarts(t *testing.T) {
	t.Parallel()
	for child, want := range map[string]string{
		"worker-silent":            "did not become ready within 300ms",
		"worker-exit-at-start":     "exited with code 7",
		"worker-version-7":         "version 7",
		"worker-no-ready":          `the first line must be "ready"`,
		"worker-exit-after-ready":  "after it was ready",
		"worker-exit-before-claim": "exited with code 1",
		"worker-no-claim":          "did not begin a task within 3s",
		"worker-no-claim-ring":     "did not begin a task within 3s",
	} {
		start := 3 * time.Second // long enough to become ready on a busy machine
		if child == "worker-silent" {
			start = 300 * time.Millisecond
		}
		// MaxRuntime must not apply before a task has begun, so a short MaxRuntime changes nothing.
		for _, maxRuntime := range []time.Duration{0, 100 * time.Millisecond} {
			t.Run(fmt.Sprint(child, maxRuntime), func(t *testing.T) {
				t.Parallel()
				r := startPool(t, child, 2, procexec.PoolOptions{StartTimeout: start, MaxRuntime: maxRuntime, KillDelay: procexec.NoKillDelay})
				r.put(action{}, action{}, action{})
				err := r.wait()
				failed := (*procexec.StartFailedError)(nil)
				if !errors.As(err, &failed) || failed.Times != 5 || !strings.Contains(err.Error(), want) || !errors.Is(r.failed, err) {
					t.Errorf("error %v, want %q; OnError was called with %v", err, want, r.failed)
				}
				if len(r.done) > 0 || len(r.released)+len(r.in) != 3 {
					t.Errorf("%v done, %v released", r.done, r.released)
				}
			})
		}
	}
}

func TestCheckNoPlaceholders(t *testing.T) {
	t.Parallel()
	if err := procexec.CheckNoPlaceholders([]string{"sh", "{task_id}"}); err == nil || !strings.Contains(err.Error(), "--isolation reuse") {
		t.Errorf("error %v", err)
	}
	if err := procexec.CheckNoPlaceholders([]string{"sh", "{id}"}); err != nil {
		t.Error(err)
	}
}

// awaitFile waits until a file exists.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	t.Fatalf("waited %v for %s", testTimeout, path)
}
