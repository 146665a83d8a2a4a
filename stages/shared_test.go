package stages_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// sharedQueue is a queue with n tasks that is shared with other workers. The tasks with a number of
// at least long take an hour. A released task is received by another worker.
type sharedQueue struct {
	mu       sync.Mutex
	n, long  int
	next     int
	out      int // tasks in flight
	maxOut   int
	calls    int
	released int
}

func (q *sharedQueue) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	q.mu.Lock()
	q.calls++
	var ds []*pipeline.Delivery
	for len(ds) < min(limit, 10) && q.next < q.n {
		lease := pipelinetest.FuncLease{
			Expiry:    time.Now().Add(time.Minute),
			OnAck:     func(context.Context) error { q.settle(false); return nil },
			OnRelease: func(context.Context, time.Duration) error { q.settle(true); return nil },
		}
		ds = append(ds, pipeline.NewDelivery(pipeline.Task{ID: "t", Data: []byte("{}")}, lease, 1))
		q.next++
	}
	q.out += len(ds)
	q.maxOut = max(q.maxOut, q.out)
	q.mu.Unlock()
	if len(ds) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return ds, nil
}

func (q *sharedQueue) Hints() pipeline.Hints { return pipeline.Hints{Shared: true, BatchSize: 10} }

func (q *sharedQueue) Close(context.Context) error { return nil }

func (q *sharedQueue) settle(released bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out--
	if released {
		q.released++
	}
}

// While tasks are short, they are prefetched in full batches. When tasks take long, waiting tasks
// are released to other workers, and the run fetches only as many tasks as it has free slots.
func TestPrefetch_SharedSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slots = 4
		q := &sharedQueue{n: 100_000, long: 4000}
		run := pipeline.New(t.Context(), pipeline.Options{Slots: slots})
		var mu sync.Mutex
		started := 0
		work := stages.RunnerFunc(func(ctx context.Context, _ pipeline.Task) (bool, []byte, error) {
			mu.Lock()
			started++
			runtime := 10 * time.Millisecond
			if started > q.long {
				runtime = time.Hour
			}
			mu.Unlock()
			select {
			case <-time.After(runtime):
				return false, nil, nil
			case <-ctx.Done():
				return false, nil, ctx.Err()
			}
		})
		extended := pipeline.Via(pipeline.From(run, "source", q), "extend", stages.Extend(run, stages.ExtendOptions{}))
		results := pipeline.Via(extended, "execute", stages.Execute(run, work))
		decisions := pipeline.Map(results, "classify", stages.Classify(stages.RetryOptions{}))
		pipeline.ToBatches(decisions, "settle", stages.Settle(sink{Rec: &recorder{}}, stages.SettleOptions{MaxConcurrentWrites: 4}))

		<-time.After(9 * time.Second) // the short tasks take about 10 s in total
		q.mu.Lock()
		if q.calls > 500 || q.maxOut < 300 || q.maxOut > slots+400+10 {
			t.Errorf("%d requests for %d tasks, at most %d in flight", q.calls, q.next, q.maxOut)
		}
		q.mu.Unlock()
		<-time.After(20 * time.Second)
		q.mu.Lock()
		if q.out != slots || q.released == 0 {
			t.Errorf("%d in flight while %d tasks run; %d released", q.out, slots, q.released)
		}
		released := q.released
		q.mu.Unlock()
		<-time.After(2 * time.Hour)
		q.mu.Lock()
		if q.out != slots || q.released != released {
			t.Errorf("%d in flight while %d tasks run; %d more released; next %d, started %d", q.out, slots, q.released-released, q.next, started)
		}
		q.mu.Unlock()
		run.Kill(errors.New("enough"))
		if err := run.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// A task that fails in its last attempt is not retried, and its event contains the reason. An
// interrupted task is always released, whatever the number of its attempt is.
func TestClassify_MaxAttempts(t *testing.T) {
	t.Parallel()
	opts := stages.RetryOptions{OnExit: true, MaxAttempts: 3}
	for _, tc := range []struct {
		attempt int
		kind    pipeline.OutcomeKind
		want    pipeline.Verdict
		reason  string
	}{
		{1, pipeline.Exited, pipeline.Retry, ""},
		{2, pipeline.Exited, pipeline.Retry, ""},
		{3, pipeline.Exited, pipeline.Ack, "attempt 3: at most 3 attempts are allowed"},
		{7, pipeline.Exited, pipeline.Ack, "attempt 7: at most 3 attempts are allowed"},
		{7, pipeline.Exception, pipeline.Ack, ""}, // no reason, because with these options exceptions are never retried
		{7, pipeline.Completed, pipeline.Ack, ""},
		{7, pipeline.Interrupted, pipeline.Release, ""},
		{7, pipeline.LeaseLost, pipeline.Release, ""},
	} {
		d := pipeline.NewDelivery(pipeline.Task{ID: "t"}, nil, tc.attempt)
		got := stages.Classify(opts)(pipeline.Result{Delivery: d, Outcome: pipeline.Outcome{Kind: tc.kind}})
		if got.Verdict != tc.want || (tc.reason == "") != (got.RetryDeniedReason == "") || !strings.Contains(got.RetryDeniedReason, tc.reason) {
			t.Errorf("attempt %d, %v: %v, %q", tc.attempt, tc.kind, got.Verdict, got.RetryDeniedReason)
		}
		if e, ok := pipeline.NewTaskEvent(got, "here", time.Now()); ok {
			body := string(e.AppendJSON(nil))
			if strings.Contains(body, `"retry_denied"`) != (tc.reason != "") {
				t.Error(body)
			}
		}
	}
}

// Events are written to a slow sink in concurrent Writes. Each task is settled when its own event
// has been written.
func TestSettle_ConcurrentWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		slow := sink{Rec: rec, OnWrite: func([]pipeline.Event) error { <-time.After(time.Second); return nil }}
		in := make(chan pipeline.Decision)
		done := make(chan error)
		began := time.Now()
		go func() {
			done <- stages.Settle(slow, stages.SettleOptions{MaxConcurrentWrites: 3})(t.Context(), pipeline.NewBatches(in))
		}()
		for _, id := range []string{"0", "1", "2", "3"} {
			in <- decision(lease{Rec: rec, ID: id}, pipeline.Completed, pipeline.Ack)
			synctest.Wait()
		}
		close(in)
		if err := <-done; err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("error %v after %v, want none after 2s", err, time.Since(began))
		}
		for _, id := range []string{"0", "1", "2", "3"} {
			if rec.Count("ack "+id) != 1 || rec.Count("event "+id+" task_completed") != 1 {
				t.Errorf("%q", rec.Lines())
			}
		}
	})
}

// If a Write fails, the stage ends immediately, without waiting for further items.
func TestSettle_ConcurrentWriteFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		broken := sink{Rec: rec, OnWrite: func([]pipeline.Event) error { <-time.After(time.Second); return errBoom }}
		in := make(chan pipeline.Decision, 1)
		in <- decision(lease{Rec: rec, ID: "0"}, pipeline.Completed, pipeline.Ack)
		err := stages.Settle(broken, stages.SettleOptions{MaxConcurrentWrites: 3})(t.Context(), pipeline.NewBatches(in))
		if !errors.Is(err, errBoom) || rec.Count("release 0 0s") != 1 || rec.Count("ack 0") != 0 {
			t.Errorf("%v, %q", err, rec.Lines())
		}
	})
}

// If the source refuses to settle a task, the run ends, because every task would run again and
// again.
func TestSettle_PermanentError(t *testing.T) {
	t.Parallel()
	for _, parallel := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			rec := &recorder{}
			in := make(chan pipeline.Decision, 1)
			in <- decision(lease{Rec: rec, ID: "0", AckErr: pipeline.ErrPermanent}, pipeline.Completed, pipeline.Ack)
			err := stages.Settle(sink{Rec: rec}, stages.SettleOptions{MaxConcurrentWrites: parallel})(t.Context(), pipeline.NewBatches(in))
			if !errors.Is(err, pipeline.ErrPermanent) || rec.Count("event 0 task_completed") != 1 {
				t.Errorf("%v, %q", err, rec.Lines())
			}
		})
	}
}

// A refused extension is retried until the lease expires. If the source keeps refusing extensions,
// the run fails once, with the error that the source returned.
func TestExtender_RefusedExtensions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		refusals int // number of extensions that are refused before extensions succeed
		failed   int // expected number of failures of the run
	}{
		"once":        {1, 0},
		"a few times": {5, 0},
		"always":      {1 << 30, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newControlledLease(time.Minute, func(_ context.Context, n int) error {
					if n > tc.refusals {
						return nil
					}
					return fmt.Errorf("%w: allow sqs:ChangeMessageVisibility", pipeline.ErrPermanent)
				})
				d, other := pipeline.NewDelivery(pipeline.Task{ID: "t"}, k, 1), pipeline.NewDelivery(pipeline.Task{ID: "u"}, newControlledLease(time.Minute, k.respond), 1)
				var log bytes.Buffer
				failed, bothLost := 0, false
				passOr(t, stages.ExtendOptions{LeaseDuration: time.Minute, Log: zerolog.New(zerolog.SyncWriter(&log))}, func(err error) {
					if !errors.Is(err, pipeline.ErrPermanent) || !strings.Contains(err.Error(), "allow sqs:ChangeMessageVisibility") {
						t.Error(err)
					}
					failed++
					bothLost = isClosed(d.Lost()) && isClosed(other.Lost())
				}, d, other)
				advance(37 * time.Second) // after 60 % of the lease duration: the first extensions have been refused by then
				if failed != 0 || isClosed(d.Lost()) || len(k.extensions()) == 0 {
					t.Errorf("the run failed %d times, lost %v, extensions at %v", failed, isClosed(d.Lost()), k.extensions())
				}
				advance(2 * time.Minute)
				if failed != tc.failed || isClosed(d.Lost()) != (tc.failed > 0) || bothLost {
					t.Errorf("the run failed %d times, lost %v, both lost at the call %v", failed, isClosed(d.Lost()), bothLost)
				}
				if n := strings.Count(log.String(), "refuses to extend the leases"); n < 1 || n > 2 {
					t.Errorf("%d lines:\n%s", n, log.String())
				}
			})
		})
	}
}

// If the source refuses all extensions, the run fails even if each task finishes
// before its lease expires.
func TestExtender_CountsRefusalsAcrossTasks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := 0
		x := stages.NewExtender(stages.ExtendOptions{LeaseDuration: 10 * time.Second}, func(error) { failed++ })
		defer x.Close()
		for range 3 { // each task takes 7 s
			d := pipeline.NewDelivery(pipeline.Task{ID: "t"}, newControlledLease(10*time.Second, func(context.Context, int) error { return pipeline.ErrPermanent }), 1)
			in, out := make(chan *pipeline.Delivery, 1), make(chan *pipeline.Delivery, 1)
			in <- d
			close(in)
			if err := x.Stage()(t.Context(), in, pipeline.NewOutput(out)); err != nil {
				t.Fatal(err)
			}
			advance(7 * time.Second)
			if err := d.Ack(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if failed != 1 {
			t.Errorf("the run failed %d times, want once", failed)
		}
	})
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// While many Writes are in flight, the stage collects events into larger batches. A slow sink
// therefore does not limit the throughput of short tasks.
func TestSettle_LingersForMoreEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		var mu sync.Mutex
		writes, largest := 0, 0
		slow := sink{Rec: rec, OnWrite: func(events []pipeline.Event) error {
			mu.Lock()
			writes++
			largest = max(largest, len(events))
			mu.Unlock()
			<-time.After(30 * time.Millisecond)
			return nil
		}}
		in := make(chan pipeline.Decision)
		done := make(chan error)
		go func() {
			done <- stages.Settle(slow, stages.SettleOptions{MaxConcurrentWrites: 32})(t.Context(), pipeline.NewBatches(in))
		}()
		const n = 10_000
		began := time.Now()
		for i := range n { // sends 20 results per millisecond
			in <- decision(lease{Rec: rec, ID: fmt.Sprint(i)}, pipeline.Completed, pipeline.Ack)
			if i%20 == 19 {
				<-time.After(time.Millisecond)
			}
		}
		close(in)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 600*time.Millisecond || writes > n/20 || largest > 256 {
			t.Errorf("%v for the events of 500ms, in %d writes of up to %d events", took, writes, largest)
		}
	})
}
