package pipeline_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// decide is the function of a Map.
func decide(r pipeline.Result) pipeline.Decision {
	return pipeline.Decision{Delivery: r.Delivery, Outcome: r.Outcome, Verdict: pipeline.Ack}
}

// again is the function of a second Map, whose input is the output of a Map.
func again(d pipeline.Decision) pipeline.Decision {
	d.RetryDeniedReason = "mapped twice"
	return d
}

func settleOne(ctx context.Context, d pipeline.Decision) error {
	if d.Verdict != pipeline.Ack || d.RetryDeniedReason != "mapped twice" || d.Outcome.Kind != pipeline.Completed {
		return fmt.Errorf("decision %+v", d)
	}
	return d.Ack(ctx)
}

// A Map has the same effect before any kind of stage: its function is called once per item, in
// order.
func TestMap(t *testing.T) {
	t.Parallel()
	type decisions = pipeline.Flow[pipeline.Decision]
	channel := func(ctx context.Context, in <-chan pipeline.Decision) error {
		for d := range in {
			if err := settleOne(ctx, d); err != nil {
				return err
			}
		}
		return nil
	}
	for name, end := range map[string]func(decisions){
		"ToBatches": func(f decisions) {
			pipeline.ToBatches(f, "settle", func(ctx context.Context, in pipeline.Batches[pipeline.Decision]) error {
				var batch []pipeline.Decision
				for {
					if batch = in.Next(batch[:0], 7, 0, nil); len(batch) == 0 {
						return nil
					}
					for _, d := range batch {
						if err := settleOne(ctx, d); err != nil {
							return err
						}
					}
				}
			})
		},
		"To": func(f decisions) { pipeline.To(f, "settle", channel) },
		"Via": func(f decisions) {
			pipeline.To(pipeline.Via(f, "pass", func(ctx context.Context, in <-chan pipeline.Decision, out pipeline.Output[pipeline.Decision]) error {
				for d := range in {
					if out.Send(ctx, d) != nil {
						return nil
					}
				}
				return nil
			}), "settle", channel)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := newRecorder()
			r := pipeline.New(t.Context(), pipeline.Options{Slots: 3, Prefetch: 10})
			results := pipeline.Via(pipeline.From(r, "source", &source{Rec: rec, N: 1000}), "complete", complete)
			end(pipeline.Map(pipeline.Map(results, "decide", decide), "again", again))
			if err := r.Wait(); err != nil {
				t.Fatal(err)
			}
			if err := rec.Once(1000); err != nil {
				t.Error(err)
			}
			if acked, _ := rec.Settled(); acked != 1000 {
				t.Errorf("%d of 1000 acknowledged", acked)
			}
		})
	}
}

// If the function of a Map panics, or its Flow is not used, the run fails, and every delivery is
// settled.
func TestMap_Faults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end  func(pipeline.Flow[pipeline.Result])
		want string
	}{
		"panic": {func(f pipeline.Flow[pipeline.Result]) {
			pipeline.ToBatches(pipeline.Map(f, "broken", func(pipeline.Result) pipeline.Decision { panic("a fault") }), "settle",
				func(_ context.Context, in pipeline.Batches[pipeline.Decision]) error {
					in.Next(nil, 10, 0, nil)
					return nil
				})
		}, "a fault"},
		"unused": {func(f pipeline.Flow[pipeline.Result]) { pipeline.Map(f, "decide", decide) }, `the output of the stage "decide" is not used`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := newRecorder()
			r := pipeline.New(t.Context(), pipeline.Options{Slots: 3})
			tc.end(pipeline.Via(pipeline.From(r, "source", &source{Rec: rec, N: 10}), "complete", complete))
			if err := r.Wait(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %s", err, tc.want)
			}
			if acked, _ := rec.Settled(); acked > 0 {
				t.Errorf("%d tasks were acknowledged", acked)
			}
		})
	}
}

// Next waits for the first item, lingers for more, and ends when stop is closed.
func TestBatches_Next(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := make(chan pipeline.Result)
		b := pipeline.NewBatches(in)
		go func() {
			for range 3 {
				<-time.After(10 * time.Millisecond)
				in <- pipeline.Result{}
			}
			<-time.After(time.Second)
			in <- pipeline.Result{}
		}()
		began := time.Now()
		if got := b.Next(nil, 10, 50*time.Millisecond, nil); len(got) != 3 || time.Since(began) != 60*time.Millisecond {
			t.Errorf("%d items after %v, want 3 after 60ms", len(got), time.Since(began))
		}
		if got := b.Next(nil, 1, time.Hour, nil); len(got) != 1 {
			t.Errorf("%d items, want the limit of 1", len(got))
		}
		stop := make(chan struct{})
		time.AfterFunc(time.Minute, func() { close(stop) })
		if got := b.Next(nil, 10, 0, stop); len(got) != 0 {
			t.Errorf("%d items after stop", len(got))
		}
		close(in)
		if got := b.Next(nil, 10, 0, nil); len(got) != 0 {
			t.Errorf("%d items after the last one", len(got))
		}
	})
}
