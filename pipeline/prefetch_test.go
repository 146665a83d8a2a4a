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

// queue is a source that never ends. It returns the tasks passed to put.
type queue struct {
	mu     sync.Mutex
	limits []int // limit of each call of Receive
	hints  pipeline.Hints
	tasks  chan *pipeline.Delivery
	closed bool
}

func (q *queue) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	q.mu.Lock()
	q.limits = append(q.limits, limit)
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

func (q *queue) Hints() pipeline.Hints { return q.hints }

func (q *queue) Close(context.Context) error { q.closed = true; return nil }

func (q *queue) put(rec *recorder, n int) {
	for i := range n {
		q.tasks <- pipeline.NewDelivery(pipeline.Task{ID: taskID(i)}, lease{Rec: rec, ID: taskID(i)}, 1)
	}
}

// A run ends if its queue is empty and no delivery has been in flight for the idle timeout.
func TestIdleTimeout_EndsRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec, q := newRecorder(), &queue{tasks: make(chan *pipeline.Delivery, 10)}
		began := time.Now()
		r := pipeline.New(t.Context(), pipeline.Options{IdleTimeout: time.Minute})
		slow := func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[pipeline.Result]) error {
			for d := range in {
				<-time.After(5 * time.Minute)
				if out.Send(ctx, pipeline.Result{Delivery: d}) != nil {
					return nil
				}
			}
			return nil
		}
		pipeline.To(pipeline.Via(pipeline.From(r, "source", q), "slow", slow), "ack", ackAll)
		go func() {
			<-time.After(50 * time.Second)
			q.put(rec, 1)
		}()
		if err := r.Wait(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 50*time.Second+5*time.Minute+time.Minute {
			t.Errorf("the run took %v, want 6m50s", took)
		}
		if acked, _ := rec.Settled(); acked != 1 || !r.Status().SourceExhausted || r.StopCause() != nil || !q.closed {
			t.Errorf("acked %d, source exhausted %v, stop cause %v", acked, r.Status().SourceExhausted, r.StopCause())
		}
	})
}

// unreachableQueue is a queue that cannot be reached before a given time.
type unreachableQueue struct {
	*queue
	until time.Time
}

func (a unreachableQueue) LastFailure() time.Time {
	if now := time.Now(); now.Before(a.until) {
		return now
	}
	return a.until
}

// Time during which the source is unreachable does not count as idle time.
func TestIdleTimeout_UnreachableSourceIsNotIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := pipeline.New(t.Context(), pipeline.Options{IdleTimeout: time.Minute})
		q := unreachableQueue{&queue{}, began.Add(time.Hour)}
		pipeline.To(pipeline.Via(pipeline.From(r, "source", q), "complete", complete), "ack", ackAll)
		if err := r.Wait(); err != nil || time.Since(began) != time.Hour+time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// SourceExhausted is false if a run is stopped before its idle timeout.
func TestIdleTimeout_StopBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &queue{}
		r := pipeline.New(t.Context(), pipeline.Options{IdleTimeout: time.Minute})
		pipeline.To(pipeline.Via(pipeline.From(r, "source", q), "complete", complete), "ack", ackAll)
		time.AfterFunc(time.Second, func() { r.Stop(errors.New("signal")) })
		if err := r.Wait(); err != nil || r.Status().SourceExhausted {
			t.Errorf("error %v, source exhausted %v", err, r.Status().SourceExhausted)
		}
	})
}

// While prefetched tasks wait for a slot, the run requests only full batches. Without prefetching,
// the run sends a request for each free slot.
func TestPrefetch_RequestsFullBatches(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ prefetch, minFetch int }{{0, 1}, {4, 2}, {40, 10}, {1000, 10}} {
		synctest.Test(t, func(t *testing.T) {
			rec, q := newRecorder(), &queue{tasks: make(chan *pipeline.Delivery, 5000), hints: pipeline.Hints{BatchSize: 10}}
			q.put(rec, 5000)
			r := pipeline.New(t.Context(), pipeline.Options{Slots: 2, Prefetch: tc.prefetch, IdleTimeout: time.Minute})
			slow := func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[pipeline.Result]) error {
				for d := range in {
					<-time.After(time.Second)
					if out.Send(ctx, pipeline.Result{Delivery: d}) != nil {
						return nil
					}
				}
				return nil
			}
			pipeline.To(pipeline.Via(pipeline.From(r, "source", q), "slow", slow), "ack", ackAll)
			if err := r.Wait(); err != nil {
				t.Fatal(err)
			}
			for i, n := range q.limits {
				if n < tc.minFetch {
					t.Fatalf("prefetch %d: request %d was for %d deliveries, want at least %d", tc.prefetch, i, n, tc.minFetch)
				}
			}
			if calls := len(q.limits); calls > 5000/tc.minFetch+10 {
				t.Errorf("prefetch %d: %d requests, want fewer", tc.prefetch, calls)
			}
		})
	}
}
