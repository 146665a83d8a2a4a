package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/pipeline"
)

// dropping returns a stage that drops the first n deliveries: it neither settles them nor passes
// them on.
func dropping(n int) pipeline.Stage[*pipeline.Delivery, *pipeline.Delivery] {
	return func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[*pipeline.Delivery]) error {
		for d := range in {
			if n--; n >= 0 {
				continue
			}
			if out.Send(ctx, d) != nil {
				return nil
			}
		}
		return nil
	}
}

// A stage that drops deliveries fails the run with an error that names the stage and the tasks. The
// deliveries are released.
func TestDropped_NamesStageAtEnd(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	r := pipeline.New(t.Context(), pipeline.Options{Slots: 20})
	tasks := pipeline.Via(pipeline.From(r, "source", &source{Rec: rec, N: 100}), "first", pass)
	tasks = pipeline.Via(pipeline.Via(tasks, "careless", dropping(2)), "last", pass)
	pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
	err := r.Wait()
	var dropped *pipeline.StageError
	if !errors.As(err, &dropped) || dropped.Stage != "careless" || !strings.Contains(err.Error(), `2 tasks were dropped (["1" "0"])`) {
		t.Fatalf("error %v", err)
	}
	if acked, released := rec.Settled(); acked != 98 || released != 2 {
		t.Errorf("acked %d, released %d; want 98 and 2", acked, released)
	}
	if err := rec.Once(100); err != nil {
		t.Error(err)
	}
}

// The error also names the last stage if that stage drops deliveries.
func TestDropped_NamesLastStage(t *testing.T) {
	t.Parallel()
	for name, add := range map[string]func(pipeline.Flow[pipeline.Result]){
		"To": func(f pipeline.Flow[pipeline.Result]) {
			pipeline.To(f, "forgetful", func(_ context.Context, in <-chan pipeline.Result) error {
				for range in { // the fault that is tested
				}
				return nil
			})
		},
		"Map and ToBatches": func(f pipeline.Flow[pipeline.Result]) {
			same := pipeline.Map(f, "same", func(r pipeline.Result) pipeline.Result { return r })
			pipeline.ToBatches(same, "forgetful", func(_ context.Context, in pipeline.Batches[pipeline.Result]) error {
				for len(in.Next(nil, 10, 0, nil)) > 0 { // the fault that is tested
				}
				return nil
			})
		},
	} {
		r := pipeline.New(t.Context(), pipeline.Options{})
		add(pipeline.Via(pipeline.From(r, "source", &source{Rec: newRecorder(), N: 12}), "complete", complete))
		var dropped *pipeline.StageError
		if err := r.Wait(); !errors.As(err, &dropped) || dropped.Stage != "forgetful" || !strings.Contains(err.Error(), "12 tasks") || strings.Count(err.Error(), `"`) != 20 {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// If a stage has dropped as many deliveries as the run may hold, the run cannot continue. Within
// seconds, it logs one warning with the name of the stage.
func TestDropped_WarnsIfRunIsStalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		warnedAt := make(chan time.Duration, 10)
		began := time.Now()
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 3, Log: zerolog.New(&log).Hook(zerolog.HookFunc(
			func(*zerolog.Event, zerolog.Level, string) { warnedAt <- time.Since(began) },
		))})
		tasks := pipeline.Via(pipeline.From(r, "source", &source{Rec: newRecorder(), N: 100}), "careless", dropping(3))
		pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
		time.AfterFunc(time.Hour, func() { r.Stop(errors.New("enough")) })
		err := r.Wait()
		if err == nil || !strings.Contains(err.Error(), "3 tasks were dropped") {
			t.Errorf("error %v", err)
		}
		if at := <-warnedAt; at > 6*time.Second {
			t.Errorf("warned after %v", at)
		}
		for _, want := range []string{`"level":"warn"`, `"stage":"careless"`, `"task_count":3`, `"task_ids":["2","1","0"]`} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("no %s in the warning %q", want, log.String())
			}
		}
		if n := strings.Count(log.String(), "a stage that still owns tasks"); n != 1 {
			t.Errorf("%d warnings:\n%s", n, log.String())
		}
	})
}

// No warning is logged about a stage that waits for another stage or for a slow task.
func TestDropped_NoWarningWhileTasksWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 3, Prefetch: 5, Log: zerolog.New(zerolog.SyncWriter(&log))})
		slow := func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[pipeline.Result]) error {
			for d := range in {
				<-time.After(time.Minute)
				if out.Send(ctx, pipeline.Result{Delivery: d}) != nil {
					return nil
				}
			}
			return nil
		}
		tasks := pipeline.Via(pipeline.From(r, "source", &source{Rec: newRecorder(), N: 20}), "pass", pass)
		pipeline.To(pipeline.Via(tasks, "slow", slow), "ack", ackAll)
		if err := r.Wait(); err != nil || log.Len() > 0 {
			t.Errorf("error %v, log %q", err, log.String())
		}
	})
}
