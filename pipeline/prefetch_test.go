package pipeline_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// queue is a source that never ends: it hands over what is put in.
type queue struct {
	mu     sync.Mutex
	asked  []int // the limits of the calls
	tasks  chan *pipeline.Delivery
	closed bool
}

func (q *queue) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	q.mu.Lock()
	q.asked = append(q.asked, limit)
	q.mu.Unlock()
	select {
	case d := <-q.tasks:
		ds := []*pipeline.Delivery{d}
		for len(ds) < limit && len(q.tasks) > 0 {
			ds = append(ds, <-q.tasks)
		}
		return ds, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (q *queue) Close(context.Context) error { q.closed = true; return nil }

func (q *queue) put(b *books, n int) {
	for i := range n {
		q.tasks <- pipeline.NewDelivery(pipeline.Task{ID: taskID(i)}, lease{b: b, id: taskID(i)}, 1)
	}
}

// A queue that stays empty ends the run, once nothing has been out for long either.
func TestNothingToDoEndsTheRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, q := newBooks(), &queue{tasks: make(chan *pipeline.Delivery, 10)}
		began := time.Now()
		r := pipeline.New(t.Context(), pipeline.Options{IdleTimeout: time.Minute})
		longer := func(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- pipeline.Result) error {
			for d := range in {
				<-time.After(5 * time.Minute)
				if pipeline.Send(ctx, out, pipeline.Result{Delivery: d}) != nil {
					return nil
				}
			}
			return nil
		}
		pipeline.To(pipeline.Via(pipeline.From(r, "source", q), "longer", longer), "ack", ackAll)
		go func() {
			<-time.After(50 * time.Second)
			q.put(b, 1)
		}()
		if err := r.Wait(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 50*time.Second+5*time.Minute+time.Minute {
			t.Errorf("it took %v", took)
		}
		if acked, _ := b.counts(); acked != 1 || !r.SourceExhausted() || r.StopCause() != nil || !q.closed {
			t.Errorf("acked %d, ended %v, stopped by %v", acked, r.SourceExhausted(), r.StopCause())
		}
	})
}

// away is a queue that cannot be asked until a moment.
type away struct {
	*queue
	until time.Time
}

func (a away) LastFailure() time.Time {
	if now := time.Now(); now.Before(a.until) {
		return now
	}
	return a.until
}

// That a source cannot be asked does not mean that there is nothing to do.
func TestASourceThatIsAwayIsNotEmpty(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := pipeline.New(t.Context(), pipeline.Options{IdleTimeout: time.Minute})
		q := away{&queue{}, began.Add(time.Hour)}
		pipeline.To(pipeline.Via(pipeline.From(r, "source", q), "complete", complete), "ack", ackAll)
		if err := r.Wait(); err != nil || time.Since(began) != time.Hour+time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// A run that is stopped while it waits has not come to its end.
func TestStopBeforeNothingToDo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &queue{}
		r := pipeline.New(t.Context(), pipeline.Options{IdleTimeout: time.Minute})
		pipeline.To(pipeline.Via(pipeline.From(r, "source", q), "complete", complete), "ack", ackAll)
		time.AfterFunc(time.Second, func() { r.Stop(errors.New("signal")) })
		if err := r.Wait(); err != nil || r.SourceExhausted() {
			t.Errorf("%v, ended %v", err, r.SourceExhausted())
		}
	})
}

// While tasks wait for a slot, a whole batch is asked for or none; without any, each
// slot that falls free asks.
func TestDemandInBatches(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ prefetch, minFetch int }{{0, 1}, {4, 2}, {40, 10}, {1000, 10}} {
		synctest.Test(t, func(t *testing.T) {
			b, q := newBooks(), &queue{tasks: make(chan *pipeline.Delivery, 5000)}
			q.put(b, 5000)
			r := pipeline.New(t.Context(), pipeline.Options{Slots: 2, Prefetch: tc.prefetch, FetchBatchSize: 10, IdleTimeout: time.Minute})
			slowly := func(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- pipeline.Result) error {
				for d := range in {
					<-time.After(time.Second)
					if pipeline.Send(ctx, out, pipeline.Result{Delivery: d}) != nil {
						return nil
					}
				}
				return nil
			}
			pipeline.To(pipeline.Via(pipeline.From(r, "source", q), "slowly", slowly), "ack", ackAll)
			if err := r.Wait(); err != nil {
				t.Fatal(err)
			}
			for i, n := range q.asked {
				if n < tc.minFetch {
					t.Fatalf("prefetch %d: call %d asked for %d", tc.prefetch, i, n)
				}
			}
			if calls := len(q.asked); calls > 5000/tc.minFetch+10 {
				t.Errorf("prefetch %d: %d calls", tc.prefetch, calls)
			}
		})
	}
}
