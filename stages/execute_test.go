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

// runner is a Runner made of a function.
type runner func(phases pipeline.Phases, slot int, d *pipeline.Delivery) (pipeline.Outcome, error)

func (f runner) Run(phases pipeline.Phases, slot int, d *pipeline.Delivery) (pipeline.Outcome, error) {
	return f(phases, slot, d)
}

// execute adds an execution and a drain that keeps the outcomes, and acks.
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

func TestSlotsRunOneTaskAtATime(t *testing.T) {
	t.Parallel()
	const slots, n = 5, 500
	j := &journal{}
	r := pipeline.New(t.Context(), pipeline.Options{Slots: slots, Prefetch: 3})
	var busy [slots]atomic.Bool
	all := make(chan struct{}) // closed once every slot has had a task at once
	var running atomic.Int32
	outcomes := execute(r, &source{j: j, n: n}, runner(func(_ pipeline.Phases, slot int, _ *pipeline.Delivery) (pipeline.Outcome, error) {
		if !busy[slot].CompareAndSwap(false, true) {
			t.Errorf("two tasks in slot %d", slot)
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

func TestRunnerThatPanics(t *testing.T) {
	t.Parallel()
	j := &journal{}
	r := pipeline.New(t.Context(), pipeline.Options{Slots: 2})
	outcomes := execute(r, &source{j: j, n: 10}, runner(func(_ pipeline.Phases, _ int, d *pipeline.Delivery) (pipeline.Outcome, error) {
		if d.Task.ID == "3" {
			panic("such a bad task")
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
	for _, part := range []string{"such a bad task", "execute_test.go"} {
		if !strings.Contains(panicked[0].Exception, part) {
			t.Errorf("%q is not in the exception\n%s", part, panicked[0].Exception)
		}
	}
}

// An error of the Runner ends the run in order: its task is given back, those
// that run may finish, and those that have not started are given back.
func TestRunnerError(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name        string
		runtime     time.Duration
		want        pipeline.OutcomeKind
		acked, back int
	}{
		{"within the grace", 20 * time.Second, pipeline.Completed, 2, 3},
		{"beyond the grace", time.Hour, pipeline.Interrupted, 0, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				j := &journal{}
				r := pipeline.New(t.Context(), pipeline.Options{Slots: 3, Prefetch: 2, GracePeriod: 30 * time.Second, KillDelay: 5 * time.Second})
				var running atomic.Int32
				outcomes := execute(r, &source{j: j, n: -1}, runner(func(phases pipeline.Phases, _ int, _ *pipeline.Delivery) (pipeline.Outcome, error) {
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
				acked, back := 0, 0
				for _, line := range j.all() {
					if strings.HasPrefix(line, "ack") {
						acked++
					} else {
						back++
					}
				}
				if acked != tc.acked || back != tc.back || r.ReceivedCount() != 5 {
					t.Errorf("acked %d, given back %d of %d", acked, back, r.ReceivedCount())
				}
			})
		})
	}
}

// A task that a slot takes after Stop is given back and not run.
func TestTaskAfterStopIsNotRun(t *testing.T) {
	t.Parallel()
	for range 50 {
		j := &journal{}
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 4})
		r.Stop(errBoom)
		in := make(chan *pipeline.Delivery, 4)
		for _, d := range deliveries(j, 4) {
			in <- d
		}
		stage := stages.Execute(r, runner(func(pipeline.Phases, int, *pipeline.Delivery) (pipeline.Outcome, error) {
			t.Error("a task was run")
			return pipeline.Outcome{}, nil
		}))
		if err := stage(r.Phases().Fetch, in, nil); err != nil {
			t.Fatal(err)
		}
		if taken := 4 - len(in); len(j.all()) != taken {
			t.Errorf("%d were taken, and %q", taken, j.all())
		}
		if err := r.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

// result is what a function returns for a task.
type result struct {
	retry bool
	json  string
	err   error
}

// wait is a task that ends when it is asked to.
func wait(ctx context.Context) result {
	<-ctx.Done()
	return result{err: ctx.Err()}
}

func TestRunnerFunc(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		f     func(ctx context.Context) result
		work  bool // the Work phase ends while it runs
		lose  bool // the lease is lost while it runs
		want  pipeline.Outcome
		cause error // of its context
	}{
		{name: "a result", f: func(context.Context) result { return result{json: `{"a":1e400}`} }, want: pipeline.Outcome{Kind: pipeline.Completed, Result: []byte(`{"a":1e400}`)}},
		{name: "a retry", f: func(context.Context) result { return result{retry: true, json: `"x"`} }, want: pipeline.Outcome{Kind: pipeline.Completed, RetryRequested: true, Result: []byte(`"x"`)}},
		{name: "an error", f: func(context.Context) result { return result{err: errBoom} }, want: pipeline.Outcome{Kind: pipeline.Exception, Exception: "boom"}},
		{name: "a panic", f: func(context.Context) result { panic("so bad") }, want: pipeline.Outcome{Kind: pipeline.Exception, Exception: "so bad"}},
		{name: "interrupted", work: true, f: wait, want: pipeline.Outcome{Kind: pipeline.Interrupted}, cause: errBoom},
		{name: "finished all the same", work: true, f: func(ctx context.Context) result { <-ctx.Done(); return result{json: "1"} }, want: pipeline.Outcome{Kind: pipeline.Completed, Result: []byte("1")}, cause: errBoom},
		{name: "lease lost", lose: true, f: wait, want: pipeline.Outcome{Kind: pipeline.LeaseLost}, cause: pipeline.ErrLeaseLost},
		{name: "lease lost, and finished all the same", lose: true, f: func(ctx context.Context) result { <-ctx.Done(); return result{json: "1"} }, want: pipeline.Outcome{Kind: pipeline.LeaseLost}, cause: pipeline.ErrLeaseLost},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			work, endWork := context.WithCancelCause(t.Context())
			defer endWork(nil)
			d := deliveries(&journal{}, 1)[0]
			run := stages.RunnerFunc(func(ctx context.Context, task pipeline.Task) (bool, []byte, error) {
				if task.ID != "0" {
					t.Errorf("task %q", task.ID)
				}
				if tc.work {
					endWork(errBoom)
				}
				if tc.lose {
					d.MarkLeaseLost(errors.New("gone"))
				}
				res := tc.f(ctx)
				if tc.cause != nil && !errors.Is(context.Cause(ctx), tc.cause) {
					t.Errorf("the context's cause is %v", context.Cause(ctx))
				}
				return res.retry, []byte(res.json), res.err
			})
			got, err := run.Run(pipeline.Phases{Terminate: work}, 0, d)
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
