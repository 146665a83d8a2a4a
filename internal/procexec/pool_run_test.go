package procexec_test

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/prefetch"
	"github.com/ctworker/ctworker/internal/procexec"
)

// poolRun is one run of a pool, with the results of its tasks.
type poolRun struct {
	t    *testing.T
	in   chan procexec.Task
	err  chan error
	stop chan struct{}
	term chan struct{}
	kill chan struct{}
	lost map[string]chan struct{}

	mu       sync.Mutex
	done     map[string]procexec.TaskResult
	released []string
	failed   error
	prefetch *prefetch.Controller
	finished chan string // receives the id of each task that is done or released
}

// startPool starts a run of a pool whose worker processes are the test binary.
func startPool(t *testing.T, child string, slots int, opts procexec.PoolOptions) *poolRun {
	t.Helper()
	return startPoolWithMaxQueueTime(t, child, slots, opts, 0)
}

// startPoolWithMaxQueueTime starts a run. If maxQueueTime is not 0, the pool assumes that other
// workers share the source.
func startPoolWithMaxQueueTime(t *testing.T, child string, slots int, opts procexec.PoolOptions, maxQueueTime time.Duration) *poolRun {
	t.Helper()
	demand := prefetch.New(prefetch.Config{Slots: slots, MaxQueueTime: maxQueueTime})
	demand.SetSource(maxQueueTime > 0, 1)
	l := newLauncher(t, procexec.Options{})
	opts.Argv = []string{self(t)}
	opts.Env = append(os.Environ(), childVar+"="+child, "GORACE=atexit_sleep_ms=0")
	pool, err := procexec.NewPool(l, opts)
	if err != nil {
		t.Fatal(err)
	}
	r := &poolRun{
		t: t, prefetch: demand, in: make(chan procexec.Task, 10_000), err: make(chan error, 1),
		stop: make(chan struct{}), term: make(chan struct{}), kill: make(chan struct{}),
		lost: map[string]chan struct{}{}, done: map[string]procexec.TaskResult{}, finished: make(chan string, 10_000),
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		out := make(chan finishedTask)
		var received sync.WaitGroup
		received.Go(func() {
			for f := range out {
				r.onDone(f)
			}
		})
		err := procexec.Run(pool, procexec.RunConfig[procexec.Task, finishedTask]{
			Input: r.in, Output: func(finishedTask) chan<- finishedTask { return out }, Task: func(task procexec.Task) procexec.Task { return task },
			Lost: func(task procexec.Task) <-chan struct{} {
				r.mu.Lock()
				defer r.mu.Unlock()
				if c, ok := r.lost[task.ID]; ok {
					return c
				}
				return nil
			},
			Result: func(task procexec.Task, result procexec.TaskResult) finishedTask {
				return finishedTask{task.ID, result}
			},
			OnRelease: func(task procexec.Task) {
				r.mu.Lock()
				r.released = append(r.released, task.ID)
				r.mu.Unlock()
				r.finished <- task.ID
			},
			Prefetch: demand,
			OnError:  func(err error) { r.mu.Lock(); r.failed = err; r.mu.Unlock() },
		}, procexec.StopSignals{NoNewTasks: r.stop, Terminate: r.term, Kill: r.kill})
		close(out)
		received.Wait()
		r.err <- err
	}()
	return r
}

// finishedTask is a task that is done, and its result.
type finishedTask struct {
	id     string
	result procexec.TaskResult
}

// onDone records the result of a task.
func (r *poolRun) onDone(f finishedTask) {
	r.mu.Lock()
	if _, twice := r.done[f.id]; twice {
		r.t.Errorf("%s is done twice", f.id)
	}
	r.done[f.id] = f.result
	r.mu.Unlock()
	r.finished <- f.id
}

// put adds tasks with the ids t0, t1 and so on.
func (r *poolRun) put(actions ...action) {
	for i, o := range actions {
		r.putAs(fmt.Sprintf("t%d", i), o)
	}
}

func (r *poolRun) putAs(id string, o action) {
	data, err := json.Marshal(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.in <- procexec.Task{ID: id, Attempt: 1, Data: data}
}

// await waits until n more tasks are done or released.
func (r *poolRun) await(n int) {
	r.t.Helper()
	for i := range n {
		receive(r.t, r.finished, fmt.Sprintf("task %d of %d", i+1, n))
	}
}

// wait waits for the end of the run, and returns its error.
func (r *poolRun) wait() error {
	r.t.Helper()
	return receive(r.t, r.err, "the end of the run")
}

// all runs one task per action, ends the run, and returns the results.
func (r *poolRun) all(actions ...action) []procexec.TaskResult {
	r.t.Helper()
	r.put(actions...)
	close(r.in)
	if err := r.wait(); err != nil {
		r.t.Fatal(err)
	}
	var results []procexec.TaskResult
	for i := range actions {
		result, ok := r.done[fmt.Sprintf("t%d", i)]
		if !ok {
			r.t.Fatalf("t%d is not done", i)
		}
		results = append(results, result)
	}
	return results
}
