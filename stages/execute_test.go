package stages_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// runner is a Runner that calls a function.
type runner func(phases pipeline.Phases, slot int, d *pipeline.Delivery) (pipeline.Outcome, error)

func (f runner) Run(phases pipeline.Phases, slot int, d *pipeline.Delivery) (pipeline.Outcome, error) {
	return f(phases, slot, d)
}

// execute adds two stages: one that executes tasks with a Runner, and a consumer that records and
// acknowledges the outcomes.
func execute(r *pipeline.Run, src *source, run stages.Runner) *[]pipeline.Outcome {
	outcomes := &[]pipeline.Outcome{}
	results := pipeline.Via(pipeline.From(r, "source", src), "execute", stages.Execute(r, run))
	pipeline.To(results, "ack", func(ctx context.Context, in <-chan pipeline.Result) error {
		for res := range in {
			*outcomes = append(*outcomes, res.Outcome)
			if res.Outcome.Kind == pipeline.Interrupted {
				res.ReleaseAsync()
			} else if err := res.Ack(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return outcomes
}

func TestExecute_RunsOneTaskPerSlot(t *testing.T) {
	t.Parallel()
	const slots, n = 5, 500
	rec := &recorder{}
	r := pipeline.New(t.Context(), pipeline.Options{Slots: slots, Prefetch: 3})
	var busy [slots]atomic.Bool
	all := make(chan struct{}) // closed when all slots run a task at the same time
	var running atomic.Int32
	outcomes := execute(r, &source{Rec: rec, N: n}, runner(func(_ pipeline.Phases, slot int, _ *pipeline.Delivery) (pipeline.Outcome, error) {
		if !busy[slot].CompareAndSwap(false, true) {
			t.Errorf("two concurrent tasks in slot %d", slot)
		}
		if running.Add(1) == slots {
			close(all)
		}
		<-all
		busy[slot].Store(false)
		return pipeline.Outcome{Kind: pipeline.Completed, Slot: 99}, nil
	}))
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	used := make(map[int]int)
	for _, o := range *outcomes {
		used[o.Slot]++
	}
	if len(*outcomes) != n || len(used) != slots {
		t.Errorf("%d outcomes in slots %v", len(*outcomes), used)
	}
	for slot := range used {
		if slot < 0 || slot >= slots {
			t.Errorf("slot %d", slot)
		}
	}
}

func TestExecute_RunnerPanics(t *testing.T) {
	t.Parallel()
	rec := &recorder{}
	r := pipeline.New(t.Context(), pipeline.Options{Slots: 2})
	outcomes := execute(r, &source{Rec: rec, N: 10}, runner(func(_ pipeline.Phases, _ int, d *pipeline.Delivery) (pipeline.Outcome, error) {
		if d.Task.ID == "3" {
			panic("bad task")
		}
		return pipeline.Outcome{Kind: pipeline.Completed}, nil
	}))
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	panicked := slices.DeleteFunc(*outcomes, func(o pipeline.Outcome) bool { return o.Kind == pipeline.Completed })
	if len(panicked) != 1 || panicked[0].Kind != pipeline.Exception {
		t.Fatalf("%+v", panicked)
	}
	for _, part := range []string{"bad task", "execute_test.go"} {
		if !strings.Contains(panicked[0].Exception, part) {
			t.Errorf("%q is missing in the exception\n%s", part, panicked[0].Exception)
		}
	}
}

// If the Runner returns an error for a task, the run fails. This task, and the tasks that have not
// started, are released. The other running tasks may finish within the grace period.
func TestExecute_RunnerError(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name            string
		runtime         time.Duration
		want            pipeline.OutcomeKind
		acked, released int
	}{
		{"within the grace period", 20 * time.Second, pipeline.Completed, 2, 3},
		{"beyond the grace period", time.Hour, pipeline.Interrupted, 0, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rec := &recorder{}
				r := pipeline.New(t.Context(), pipeline.Options{Slots: 3, Prefetch: 2, GracePeriod: 30 * time.Second, KillDelay: 5 * time.Second})
				var running atomic.Int32
				outcomes := execute(r, &source{Rec: rec, N: -1}, runner(func(phases pipeline.Phases, _ int, _ *pipeline.Delivery) (pipeline.Outcome, error) {
					if running.Add(1) == 3 {
						return pipeline.Outcome{}, errBoom
					}
					select {
					case <-time.After(tc.runtime):
						return pipeline.Outcome{Kind: pipeline.Completed}, nil
					case <-phases.Terminate.Done():
						return pipeline.Outcome{Kind: pipeline.Interrupted}, nil
					}
				}))
				err := r.Wait()
				if !errors.Is(err, errBoom) || !strings.Contains(err.Error(), "execute: task \"") || !errors.Is(r.StopCause(), errBoom) {
					t.Errorf("error %v, stop cause %v", err, r.StopCause())
				}
				if len(*outcomes) != 2 || (*outcomes)[0].Kind != tc.want || (*outcomes)[1].Kind != tc.want {
					t.Errorf("%+v", *outcomes)
				}
				acked, released := 0, 0
				for _, line := range rec.Lines() {
					if strings.HasPrefix(line, "ack") {
						acked++
					} else {
						released++
					}
				}
				if acked != tc.acked || released != tc.released || r.Status().Received != 5 {
					t.Errorf("acked %d, released %d of %d", acked, released, r.Status().Received)
				}
			})
		})
	}
}

// A task that a slot receives after Stop is released and not executed.
func TestExecute_ReleasesTasksAfterStop(t *testing.T) {
	t.Parallel()
	for range 50 {
		rec := &recorder{}
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 4})
		r.Stop(errBoom)
		in := make(chan *pipeline.Delivery, 4)
		for _, d := range deliveries(rec, 4) {
			in <- d
		}
		stage := stages.Execute(r, runner(func(pipeline.Phases, int, *pipeline.Delivery) (pipeline.Outcome, error) {
			t.Error("a task was executed after Stop")
			return pipeline.Outcome{}, nil
		}))
		if err := stage(r.Phases().Fetch, in, pipeline.NewOutput[pipeline.Result](nil)); err != nil {
			t.Fatal(err)
		}
		if taken := 4 - len(in); len(rec.Lines()) != taken {
			t.Errorf("%d deliveries received, requests %q", taken, rec.Lines())
		}
		_ = r.Wait() // returns an error, because the run has no source
	}
}

// result contains the return values of a function passed to RunnerFunc.
type result struct {
	retry bool
	json  string
	err   error
}

// wait is a function for RunnerFunc. It returns when its context is done.
func wait(ctx context.Context) result {
	<-ctx.Done()
	return result{err: ctx.Err()}
}

func TestRunnerFunc(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name      string
		f         func(ctx context.Context) result
		terminate bool // the Terminate phase ends while f runs
		leaseLost bool // the lease is lost while f runs
		want      pipeline.Outcome
		cause     error // cause of the function's context
	}{
		{name: "a result", f: func(context.Context) result { return result{json: `{"a":1e400}`} }, want: pipeline.Outcome{Kind: pipeline.Completed, Result: []byte(`{"a":1e400}`)}},
		{name: "a retry", f: func(context.Context) result { return result{retry: true, json: `"x"`} }, want: pipeline.Outcome{Kind: pipeline.Completed, RetryRequested: true, Result: []byte(`"x"`)}},
		{name: "an error", f: func(context.Context) result { return result{err: errBoom} }, want: pipeline.Outcome{Kind: pipeline.Exception, Exception: "boom"}},
		{name: "a panic", f: func(context.Context) result { panic("panic value") }, want: pipeline.Outcome{Kind: pipeline.Exception, Exception: "panic value"}},
		{name: "interrupted", terminate: true, f: wait, want: pipeline.Outcome{Kind: pipeline.Interrupted}, cause: errBoom},
		{name: "completed after the Terminate phase", terminate: true, f: func(ctx context.Context) result { <-ctx.Done(); return result{json: "1"} }, want: pipeline.Outcome{Kind: pipeline.Completed, Result: []byte("1")}, cause: errBoom},
		{name: "lease lost", leaseLost: true, f: wait, want: pipeline.Outcome{Kind: pipeline.LeaseLost}, cause: pipeline.ErrLeaseLost},
		{name: "completed after the lease was lost", leaseLost: true, f: func(ctx context.Context) result { <-ctx.Done(); return result{json: "1"} }, want: pipeline.Outcome{Kind: pipeline.LeaseLost}, cause: pipeline.ErrLeaseLost},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			terminate, endTerminate := context.WithCancelCause(t.Context())
			defer endTerminate(nil)
			d := deliveries(&recorder{}, 1)[0]
			run := stages.RunnerFunc(func(ctx context.Context, task pipeline.Task) (bool, []byte, error) {
				if task.ID != "0" {
					t.Errorf("task %q", task.ID)
				}
				if tc.terminate {
					endTerminate(errBoom)
				}
				if tc.leaseLost {
					d.Plumbing().MarkLeaseLost(errors.New("gone"))
				}
				res := tc.f(ctx)
				if tc.cause != nil && !errors.Is(context.Cause(ctx), tc.cause) {
					t.Errorf("context cause %v", context.Cause(ctx))
				}
				return res.retry, []byte(res.json), res.err
			})
			got, err := run.Run(pipeline.Phases{Terminate: terminate}, 0, d)
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != tc.want.Kind || got.RetryRequested != tc.want.RetryRequested || string(got.Result) != string(tc.want.Result) || !strings.Contains(got.Exception, tc.want.Exception) {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
			if strings.Contains(tc.name, "panic") && !strings.Contains(got.Exception, "execute_test.go") {
				t.Errorf("no stack in %q", got.Exception)
			}
		})
	}
}

// faulty stands for a function in the user's code that panics because of an index out of range.
func faulty(n []int) int { return n[len(n)] }

// If a function panics, the exception contains the panic and the stack frames of the user's code,
// innermost first. It contains no frame of ctworker.
func TestRunnerFunc_PanicShowsUsersFrames(t *testing.T) {
	t.Parallel()
	r := pipeline.New(t.Context(), pipeline.Options{})
	runner := stages.RunnerFunc(func(context.Context, pipeline.Task) (bool, []byte, error) {
		return false, []byte{byte(faulty(nil))}, nil
	})
	out, err := runner.Run(r.Phases(), 0, deliveries(&recorder{}, 1)[0])
	if err != nil || out.Kind != pipeline.Exception {
		t.Fatalf("%v, error %v", out.Kind, err)
	}
	lines := strings.Split(out.Exception, "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[0], "panic: runtime error: index out of range") ||
		!strings.HasSuffix(lines[1], "stages_test.faulty") || !strings.Contains(lines[2], "execute_test.go:") ||
		!strings.Contains(lines[3], "stages_test.TestRunnerFunc_PanicShowsUsersFrames.func1") {
		t.Errorf("exception:\n%s", out.Exception)
	}
}
