package pipeline_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

func TestEveryTaskIsSettledOnceWhenTheSourceEnds(t *testing.T) {
	t.Parallel()
	b := newBooks()
	r := pipeline.New(t.Context(), pipeline.Options{Slots: 3})
	tasks := pipeline.Via(pipeline.From(r, "source", &source{b: b, n: 1000}), "pass", pass)
	pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := b.once(1000); err != nil {
		t.Error(err)
	}
	if acked, _ := b.counts(); acked != 1000 {
		t.Errorf("acked %d of 1000", acked)
	}
	if !r.SourceExhausted() || r.ReceivedCount() != 1000 || b.closed != 1 || r.StopCause() != nil {
		t.Errorf("ended %v, received %d, closed %d times, stopped by %v", r.SourceExhausted(), r.ReceivedCount(), b.closed, r.StopCause())
	}
}

// A source is asked for what can start and for no more, even if nothing ends.
func TestSourceIsAskedOnlyForWhatCanStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks()
		src := &source{b: b, n: -1}
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 4, Prefetch: 2})
		never := func(ctx context.Context, in <-chan *pipeline.Delivery, _ chan<- pipeline.Result) error {
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
		if r.ReceivedCount() != 6 || src.mostOut != 6 {
			t.Errorf("received %d, at most %d at once; want 6", r.ReceivedCount(), src.mostOut)
		}
		r.Stop(errors.New("enough"))
		if err := r.Wait(); err != nil {
			t.Fatal(err)
		}
		if acked, released := b.counts(); acked != 0 || released != 6 {
			t.Errorf("acked %d, released %d; want 0 and 6", acked, released)
		}
	})
}

// A task that has left its slot makes room for the next, settled or not.
func TestFreeSlotMakesRoomBeforeSettling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks()
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
		tasks := pipeline.From(r, "source", &source{b: b, n: 10})
		pipeline.To(pipeline.Via(tasks, "complete", complete), "slow ack", slowAck)
		if err := r.Wait(); err != nil {
			t.Fatal(err)
		}
		if err := b.once(10); err != nil {
			t.Error(err)
		}
	})
}

// working returns an execution whose tasks run until work says so, and the
// number that were interrupted.
func working(phases pipeline.Phases, started chan<- string, d time.Duration) pipeline.Stage[*pipeline.Delivery, pipeline.Result] {
	return func(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- pipeline.Result) error {
		for d0 := range in {
			if ctx.Err() != nil {
				d0.ReleaseAsync()
				continue
			}
			started <- d0.Task.ID
			kind := pipeline.Completed
			select {
			case <-time.After(d):
			case <-phases.Terminate.Done():
				kind = pipeline.Interrupted
			}
			_ = pipeline.Send(phases.Settle, out, pipeline.Result{Delivery: d0, Outcome: pipeline.Outcome{Kind: kind}})
			d0.ReleaseSlot()
		}
		return nil
	}
}

// settleByKind acks what completed and releases the rest.
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

func TestStop(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name            string
		runtime         time.Duration
		kill            bool
		wantAcked       int
		wantAt          time.Duration // from Stop to the end
		wantReleasedNow int           // at once: what had not started
	}{
		{"the running task finishes within the grace", 20 * time.Second, false, 1, 20 * time.Second, 3},
		{"the running task outlasts the grace", time.Hour, false, 0, 30 * time.Second, 3},
		{"a second signal ends it at once", time.Hour, true, 0, 0, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBooks()
				told := 0
				r := pipeline.New(t.Context(), pipeline.Options{
					Slots: 4, GracePeriod: 30 * time.Second, KillDelay: 5 * time.Second,
					OnStop: func(error) { told++ },
				})
				started := make(chan string, 1)
				tasks := pipeline.From(r, "source", &source{b: b, n: -1})
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
				if _, released := b.counts(); released < tc.wantReleasedNow {
					t.Errorf("%d released at once, want %d", released, tc.wantReleasedNow)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if took := time.Since(at); took != tc.wantAt {
					t.Errorf("ended after %v, want %v", took, tc.wantAt)
				}
				if acked, released := b.counts(); acked != tc.wantAcked || acked+released != int(r.ReceivedCount()) {
					t.Errorf("acked %d, released %d of %d", acked, released, r.ReceivedCount())
				}
				if !errors.Is(r.StopCause(), cause) || told != 1 {
					t.Errorf("stop cause %v, told %d times", r.StopCause(), told)
				}
			})
		})
	}
}

// A run that is drained lets what runs go on for as long as it takes, and gives back at
// once what has not started; Stop and Kill end it all the same.
func TestDrain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		then      func(*pipeline.Run, error)
		wantAcked int
		wantAt    time.Duration
		wantTold  int
	}{
		"the task takes its time": {nil, 1, time.Hour, 0},
		"it is stopped":           {(*pipeline.Run).Stop, 0, 30 * time.Second, 1},
		"it is killed":            {(*pipeline.Run).Kill, 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, told := newBooks(), 0
				r := pipeline.New(t.Context(), pipeline.Options{Slots: 4, GracePeriod: 30 * time.Second, OnStop: func(error) { told++ }})
				started := make(chan string, 1)
				tasks := pipeline.From(r, "source", &source{b: b, n: -1})
				pipeline.To(pipeline.Via(tasks, "work", working(r.Phases(), started, time.Hour)), "settle", settleByKind)
				<-started
				synctest.Wait()
				cause := errors.New("a notice")
				r.StopFetching(cause)
				at, done := time.Now(), make(chan error)
				go func() { done <- r.Wait() }()
				synctest.Wait()
				if _, released := b.counts(); released < 3 {
					t.Errorf("%d released at once", released)
				}
				if tc.then != nil {
					tc.then(r, errors.New("then"))
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				acked, released := b.counts()
				if took := time.Since(at); took != tc.wantAt || acked != tc.wantAcked || acked+released != int(r.ReceivedCount()) || told != tc.wantTold {
					t.Errorf("ended after %v: acked %d, released %d of %d, told %d times", took, acked, released, r.ReceivedCount(), told)
				}
				if !errors.Is(r.StopCause(), cause) {
					t.Errorf("%v", r.StopCause())
				}
			})
		})
	}
}

func TestCancellingTheParentStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	b := newBooks()
	r := pipeline.New(ctx, pipeline.Options{})
	tasks := pipeline.From(r, "source", &source{b: b, hang: true})
	pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
	why := errors.New("why")
	cancel(why)
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(r.StopCause(), why) {
		t.Errorf("stop cause %v", r.StopCause())
	}
}

// A stage that returns early ends what is before it, and what it has passed on
// is still run.
func TestStageThatNeedsNoMore(t *testing.T) {
	t.Parallel()
	b := newBooks()
	r := pipeline.New(t.Context(), pipeline.Options{Slots: 8})
	three := func(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- *pipeline.Delivery) error {
		for range 3 {
			if err := pipeline.Send(ctx, out, <-in); err != nil {
				return err
			}
		}
		return nil
	}
	tasks := pipeline.Via(pipeline.From(r, "source", &source{b: b, n: -1}), "before", pass)
	tasks = pipeline.Via(pipeline.Via(tasks, "three", three), "after", pass)
	pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	acked, released := b.counts()
	if acked != 3 || acked+released != int(r.ReceivedCount()) {
		t.Errorf("acked %d and released %d of %d; want 3 acked", acked, released, r.ReceivedCount())
	}
}

// Whatever stage fails, and however, the run ends, names it, and settles every
// task once.
func TestFailingStage(t *testing.T) {
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
				b := newBooks()
				r := pipeline.New(t.Context(), pipeline.Options{Slots: 4})
				at := func(stage string, i int) error {
					if stage == where && i == 5 {
						return fail()
					}
					return nil
				}
				src := &failingSource{source: source{b: b, n: -1}, at: func(i int) error { return at("source", i) }}
				first := func(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- *pipeline.Delivery) error {
					i := 0
					for d := range in {
						if err := at("first", i); err != nil {
							d.ReleaseAsync()
							return err
						}
						if i++; pipeline.Send(ctx, out, d) != nil {
							return nil
						}
					}
					return nil
				}
				execute := func(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- pipeline.Result) error {
					i := 0
					for d := range in {
						if err := at("execute", i); err != nil {
							return err // drops d: the run must give it back
						}
						i++
						if pipeline.Send(r.Phases().Settle, out, pipeline.Result{Delivery: d}) != nil {
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
					t.Fatalf("error %v; want one of stage %q that is %v", err, where, boom)
				}
				var p *pipeline.PanicError
				if errors.As(err, &p) != (how == "panic") {
					t.Errorf("panic error: %v", p)
				} else if p != nil && !strings.Contains(string(p.Stack), "run_test.go") {
					t.Errorf("the stack does not name the place:\n%s", p.Stack)
				}
				if err := b.once(int(r.ReceivedCount())); err != nil {
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

// Deliveries that come with an error are run before the error ends the run.
func TestSourceErrorAfterTasks(t *testing.T) {
	t.Parallel()
	b := newBooks()
	broken := errors.New("line 7 is broken")
	r := pipeline.New(t.Context(), pipeline.Options{Slots: 2})
	tasks := pipeline.From(r, "file", &source{b: b, n: 5, err: broken})
	pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
	err := r.Wait()
	if !errors.Is(err, broken) || r.SourceExhausted() {
		t.Fatalf("error %v, ended %v", err, r.SourceExhausted())
	}
	if acked, _ := b.counts(); acked != 5 {
		t.Errorf("%d of the 5 tasks before the error were acked", acked)
	}
}

// What hangs is named, and Wait does not wait for it for ever.
func TestStuckStageIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks()
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 2, SettleTimeout: 20 * time.Second})
		release := make(chan struct{})
		hang := func(_ context.Context, in <-chan pipeline.Result) error {
			<-release
			for res := range in {
				res.ReleaseAsync()
			}
			return nil
		}
		tasks := pipeline.From(r, "source", &source{b: b, n: 2})
		pipeline.To(pipeline.Via(tasks, "complete", complete), "event log", hang)
		start := time.Now()
		err := r.Wait()
		var stuck *pipeline.ShutdownTimeoutError
		if !errors.As(err, &stuck) {
			t.Fatalf("error %v, want a StuckError", err)
		}
		if len(stuck.Stages) != 1 || stuck.Stages[0] != "event log" || stuck.Unsettled != 2 || len(stuck.Tasks) != 2 {
			t.Errorf("stuck: %+v", stuck)
		}
		if took := time.Since(start); took < 20*time.Second || took > 25*time.Second {
			t.Errorf("gave up after %v", took)
		}
		close(release)
	})
}

func TestAddingAStageAfterWaitPanics(t *testing.T) {
	t.Parallel()
	r := pipeline.New(t.Context(), pipeline.Options{})
	tasks := pipeline.From(r, "source", &source{b: newBooks()})
	pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	pipeline.From(r, "late", &source{b: newBooks()})
}
