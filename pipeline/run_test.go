package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
)

func TestRun_SettlesEveryTaskOnce(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	r := pipeline.New(t.Context(), pipeline.Options{Slots: 3})
	tasks := pipeline.Via(pipeline.From(r, "source", &source{Rec: rec, N: 1000}), "pass", pass)
	pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := rec.Once(1000); err != nil {
		t.Error(err)
	}
	if acked, _ := rec.Settled(); acked != 1000 {
		t.Errorf("acked %d of 1000", acked)
	}
	if !r.Status().SourceExhausted || r.Status().Received != 1000 || rec.Closed() != 1 || r.StopCause() != nil {
		t.Errorf("source exhausted %v, received %d, closed %d times, stop cause %v", r.Status().SourceExhausted, r.Status().Received, rec.Closed(), r.StopCause())
	}
}

// Until a task ends, the run fetches one delivery per slot plus Options.Prefetch.
func TestRun_FetchesOnlyWhatCanStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := newRecorder()
		src := &source{Rec: rec, N: -1}
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 4, Prefetch: 2})
		never := func(ctx context.Context, in <-chan *pipeline.Delivery, _ pipeline.Output[pipeline.Result]) error {
			var held []*pipeline.Delivery
			for d := range in {
				held = append(held, d)
			}
			for _, d := range held {
				d.ReleaseAsync()
			}
			return nil
		}
		tasks := pipeline.Via(pipeline.From(r, "source", src), "pass", pass)
		pipeline.To(pipeline.Via(tasks, "never", never), "ack", ackAll)
		synctest.Wait()
		if r.Status().Received != 6 || src.MaxLimit != 6 {
			t.Errorf("received %d, requested at most %d; want 6", r.Status().Received, src.MaxLimit)
		}
		r.Stop(errors.New("enough"))
		if err := r.Wait(); err != nil {
			t.Fatal(err)
		}
		if acked, released := rec.Settled(); acked != 0 || released != 6 {
			t.Errorf("acked %d, released %d; want 0 and 6", acked, released)
		}
	})
}

// After ReleaseSlot the run fetches the next task, although the task that occupied the slot is not
// settled.
func TestReleaseSlot_FetchesBeforeSettling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := newRecorder()
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 1})
		slowAck := func(ctx context.Context, in <-chan pipeline.Result) error {
			var all []pipeline.Result
			for res := range in {
				all = append(all, res)
			}
			for _, res := range all {
				if err := res.Ack(ctx); err != nil {
					return err
				}
			}
			return nil
		}
		tasks := pipeline.From(r, "source", &source{Rec: rec, N: 10})
		pipeline.To(pipeline.Via(tasks, "complete", complete), "slow ack", slowAck)
		if err := r.Wait(); err != nil {
			t.Fatal(err)
		}
		if err := rec.Once(10); err != nil {
			t.Error(err)
		}
	})
}

// working returns a stage that executes tasks. Each task runs for d. A task that still runs at the
// end of the Terminate phase is interrupted. The stage sends the ID of each task to started.
func working(phases pipeline.Phases, started chan<- string, d time.Duration) pipeline.Stage[*pipeline.Delivery, pipeline.Result] {
	return func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[pipeline.Result]) error {
		for delivery := range in {
			if ctx.Err() != nil {
				delivery.ReleaseAsync()
				continue
			}
			started <- delivery.Task.ID
			kind := pipeline.Completed
			select {
			case <-time.After(d):
			case <-phases.Terminate.Done():
				kind = pipeline.Interrupted
			}
			_ = out.Send(phases.Settle, pipeline.Result{Delivery: delivery, Outcome: pipeline.Outcome{Kind: kind}})
			delivery.ReleaseSlot()
		}
		return nil
	}
}

// settleByKind acknowledges completed tasks and releases the others.
func settleByKind(ctx context.Context, in <-chan pipeline.Result) error {
	for r := range in {
		if r.Outcome.Kind == pipeline.Completed {
			if err := r.Ack(ctx); err != nil {
				return err
			}
			continue
		}
		if err := r.Release(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

func TestRun_Stop(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name            string
		runtime         time.Duration
		kill            bool
		wantAcked       int
		wantAt          time.Duration // time from Stop to the end of the run
		wantReleasedNow int           // number of tasks released immediately, because they had not started
	}{
		{"the running task finishes within the grace period", 20 * time.Second, false, 1, 20 * time.Second, 3},
		{"the running task exceeds the grace period", time.Hour, false, 0, 30 * time.Second, 3},
		{"a second signal kills the task", time.Hour, true, 0, 0, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rec := newRecorder()
				notified := 0
				r := pipeline.New(t.Context(), pipeline.Options{
					Slots: 4, GracePeriod: 30 * time.Second, KillDelay: 5 * time.Second,
					OnStop: func(error) { notified++ },
				})
				started := make(chan string, 1)
				tasks := pipeline.From(r, "source", &source{Rec: rec, N: -1})
				pipeline.To(pipeline.Via(tasks, "work", working(r.Phases(), started, tc.runtime)), "settle", settleByKind)
				<-started
				synctest.Wait()
				cause := errors.New("signal")
				r.Stop(cause)
				at := time.Now()
				if tc.kill {
					r.Kill(cause)
				}
				done := make(chan error)
				go func() { done <- r.Wait() }()
				synctest.Wait()
				if _, released := rec.Settled(); released < tc.wantReleasedNow {
					t.Errorf("%d released at once, want %d", released, tc.wantReleasedNow)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if took := time.Since(at); took != tc.wantAt {
					t.Errorf("ended after %v, want %v", took, tc.wantAt)
				}
				if acked, released := rec.Settled(); acked != tc.wantAcked || acked+released != int(r.Status().Received) {
					t.Errorf("acked %d, released %d of %d", acked, released, r.Status().Received)
				}
				if !errors.Is(r.StopCause(), cause) || notified != 1 {
					t.Errorf("stop cause %v, OnStop called %d times", r.StopCause(), notified)
				}
			})
		})
	}
}

// After StopFetching, running tasks may finish without a time limit. Tasks that have not started
// are released immediately. Stop and Kill can still end the run.
func TestRun_StopFetching(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		then         func(*pipeline.Run, error)
		wantAcked    int
		wantAt       time.Duration
		wantNotified int
	}{
		"the task finishes": {nil, 1, time.Hour, 0},
		"then Stop":         {(*pipeline.Run).Stop, 0, 30 * time.Second, 1},
		"then Kill":         {(*pipeline.Run).Kill, 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rec, notified := newRecorder(), 0
				r := pipeline.New(t.Context(), pipeline.Options{Slots: 4, GracePeriod: 30 * time.Second, OnStop: func(error) { notified++ }})
				started := make(chan string, 1)
				tasks := pipeline.From(r, "source", &source{Rec: rec, N: -1})
				pipeline.To(pipeline.Via(tasks, "work", working(r.Phases(), started, time.Hour)), "settle", settleByKind)
				<-started
				synctest.Wait()
				cause := errors.New("a notice")
				r.StopFetching(cause)
				at, done := time.Now(), make(chan error)
				go func() { done <- r.Wait() }()
				synctest.Wait()
				if _, released := rec.Settled(); released < 3 {
					t.Errorf("%d released at once", released)
				}
				if tc.then != nil {
					tc.then(r, errors.New("then"))
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				acked, released := rec.Settled()
				if took := time.Since(at); took != tc.wantAt || acked != tc.wantAcked || acked+released != int(r.Status().Received) || notified != tc.wantNotified {
					t.Errorf("ended after %v: acked %d, released %d of %d, OnStop called %d times", took, acked, released, r.Status().Received, notified)
				}
				if !errors.Is(r.StopCause(), cause) {
					t.Errorf("stop cause %v, want %v", r.StopCause(), cause)
				}
			})
		})
	}
}

func TestRun_StopsWithParentContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	rec := newRecorder()
	r := pipeline.New(ctx, pipeline.Options{})
	tasks := pipeline.From(r, "source", &source{Rec: rec, Hang: true})
	pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
	cause := errors.New("cause")
	cancel(cause)
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(r.StopCause(), cause) {
		t.Errorf("stop cause %v", r.StopCause())
	}
}

// If a stage returns before its input ends, the stages before it are stopped. The tasks that the
// stage has already passed on are executed.
func TestStage_ReturnsEarly(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	r := pipeline.New(t.Context(), pipeline.Options{Slots: 8})
	three := func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[*pipeline.Delivery]) error {
		for range 3 {
			if err := out.Send(ctx, <-in); err != nil {
				return err
			}
		}
		return nil
	}
	tasks := pipeline.Via(pipeline.From(r, "source", &source{Rec: rec, N: -1}), "before", pass)
	tasks = pipeline.Via(pipeline.Via(tasks, "three", three), "after", pass)
	pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	acked, released := rec.Settled()
	if acked != 3 || acked+released != int(r.Status().Received) {
		t.Errorf("acked %d and released %d of %d; want 3 acked", acked, released, r.Status().Received)
	}
}

// If a stage fails, the run ends with an error that names the stage, and every task is settled
// once.
func TestStage_Fails(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	fails := map[string]func() error{
		"error": func() error { return boom },
		"panic": func() error { panic(boom) },
	}
	for how, fail := range fails {
		for _, where := range []string{"source", "first", "execute", "last"} {
			t.Run(where+" "+how, func(t *testing.T) {
				t.Parallel()
				rec := newRecorder()
				r := pipeline.New(t.Context(), pipeline.Options{Slots: 4})
				at := func(stage string, i int) error {
					if stage == where && i == 5 {
						return fail()
					}
					return nil
				}
				src := &failingSource{source: source{Rec: rec, N: -1}, at: func(i int) error { return at("source", i) }}
				first := func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[*pipeline.Delivery]) error {
					i := 0
					for d := range in {
						if err := at("first", i); err != nil {
							d.ReleaseAsync()
							return err
						}
						if i++; out.Send(ctx, d) != nil {
							return nil
						}
					}
					return nil
				}
				execute := func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[pipeline.Result]) error {
					i := 0
					for d := range in {
						if err := at("execute", i); err != nil {
							return err // the stage drops d unsettled, so the run must release d
						}
						i++
						if out.Send(r.Phases().Settle, pipeline.Result{Delivery: d}) != nil {
							return nil
						}
						d.ReleaseSlot()
					}
					return nil
				}
				last := func(ctx context.Context, in <-chan pipeline.Result) error {
					i := 0
					for res := range in {
						if err := at("last", i); err != nil {
							return err
						}
						i++
						if err := res.Ack(ctx); err != nil {
							return err
						}
					}
					return nil
				}
				tasks := pipeline.Via(pipeline.From(r, "source", src), "first", first)
				pipeline.To(pipeline.Via(tasks, "execute", execute), "last", last)
				err := r.Wait()
				var stage *pipeline.StageError
				if !errors.As(err, &stage) || stage.Stage != where || !errors.Is(err, boom) {
					t.Fatalf("error %v; want an error of stage %q that wraps %v", err, where, boom)
				}
				var p *pipeline.PanicError
				if errors.As(err, &p) != (how == "panic") {
					t.Errorf("panic error: %v", p)
				} else if p != nil && !strings.Contains(string(p.Stack), "run_test.go") {
					t.Errorf("the stack does not contain this file:\n%s", p.Stack)
				}
				if err := rec.Once(int(r.Status().Received)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

type failingSource struct {
	source
	at    func(int) error
	calls int
}

func (s *failingSource) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	s.calls++
	if err := s.at(s.calls); err != nil {
		return nil, err
	}
	return s.source.Receive(ctx, limit)
}

// If Receive returns deliveries and an error, the run executes the deliveries and then ends with
// the error.
func TestSource_ErrorAfterTasks(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	broken := errors.New("line 7 is broken")
	r := pipeline.New(t.Context(), pipeline.Options{Slots: 2})
	tasks := pipeline.From(r, "file", &source{Rec: rec, N: 5, Err: broken})
	pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
	err := r.Wait()
	if !errors.Is(err, broken) || r.Status().SourceExhausted {
		t.Fatalf("error %v, source exhausted %v", err, r.Status().SourceExhausted)
	}
	if acked, _ := rec.Settled(); acked != 5 {
		t.Errorf("%d of the 5 tasks before the error were acked", acked)
	}
}

// If a stage does not return, the error of Wait names the stage.
func TestRun_NamesHangingStage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := newRecorder()
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 2, SettleTimeout: 20 * time.Second})
		release := make(chan struct{})
		hang := func(_ context.Context, in <-chan pipeline.Result) error {
			<-release
			for res := range in {
				res.ReleaseAsync()
			}
			return nil
		}
		tasks := pipeline.From(r, "source", &source{Rec: rec, N: 2})
		pipeline.To(pipeline.Via(tasks, "complete", complete), "event log", hang)
		start := time.Now()
		err := r.Wait()
		stuck, unsettled, ids, ok := pipeline.AsShutdownTimeout(err)
		if !ok || len(stuck) != 1 || stuck[0] != "event log" || unsettled != 2 || len(ids) != 2 {
			t.Errorf("error %v; stages %q, %d unsettled tasks %q", err, stuck, unsettled, ids)
		}
		if took := time.Since(start); took < 20*time.Second || took > 25*time.Second {
			t.Errorf("gave up after %v", took)
		}
		close(release)
	})
}

func TestRun_PanicsOnStageAfterWait(t *testing.T) {
	t.Parallel()
	r := pipeline.New(t.Context(), pipeline.Options{})
	tasks := pipeline.From(r, "source", &source{Rec: newRecorder()})
	pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	pipeline.From(r, "late", &source{Rec: newRecorder()})
}

// A run without a source or without a last stage fails with an error that names the missing call.
func TestRun_IncompletePipeline(t *testing.T) {
	t.Parallel()
	t.Run("no stages", func(t *testing.T) {
		t.Parallel()
		if err := pipeline.New(t.Context(), pipeline.Options{}).Wait(); err == nil || !strings.Contains(err.Error(), "call From") {
			t.Errorf("error %v, want one that names From", err)
		}
	})
	for name, build := range map[string]func(*pipeline.Run, pipeline.Source){
		"fetch": func(r *pipeline.Run, src pipeline.Source) { pipeline.From(r, "fetch", src) },
		"pass": func(r *pipeline.Run, src pipeline.Source) {
			pipeline.Via(pipeline.From(r, "fetch", src), "pass", func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[*pipeline.Delivery]) error {
				for d := range in {
					if err := out.Send(ctx, d); err != nil {
						return nil //nolint:nilerr // the run ends
					}
				}
				return nil
			})
		},
	} {
		t.Run("unused output of "+name, func(t *testing.T) {
			t.Parallel()
			src := &pipelinetest.ReadySource{N: 1000}
			r := pipeline.New(t.Context(), pipeline.Options{})
			build(r, src)
			err := r.Wait()
			if want := fmt.Sprintf("the output of the stage %q is not used", name); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
}

// Passing a Flow to two stages panics, because each item would reach only one of these stages.
func TestFlow_IsUsedOnce(t *testing.T) {
	t.Parallel()
	r := pipeline.New(t.Context(), pipeline.Options{})
	flow := pipeline.From(r, "fetch", &pipelinetest.ReadySource{N: 1})
	consume := func(ctx context.Context, in <-chan *pipeline.Delivery) error {
		for d := range in {
			if err := d.Ack(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	pipeline.To(flow, "first", consume)
	func() {
		defer func() {
			if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), `the output of the stage "fetch" is used twice`) {
				t.Errorf("panic %v, want one that names the stage", p)
			}
		}()
		pipeline.To(flow, "second", consume)
	}()
	if err := r.Wait(); err != nil {
		t.Error(err)
	}
}
