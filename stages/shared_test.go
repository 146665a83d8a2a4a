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

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// sharedQueue is a queue that others take tasks from as well: n tasks, of which those
// from long on take an hour. A task that is released goes to others, after a second.
type sharedQueue struct {
	mu       sync.Mutex
	n, long  int
	next     int
	out      int // received, and neither run nor released
	mostOut  int
	calls    int
	released int
}

func (q *sharedQueue) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	q.mu.Lock()
	q.calls++
	var ds []*pipeline.Delivery
	for len(ds) < min(limit, 10) && q.next < q.n {
		ds = append(ds, pipeline.NewDelivery(pipeline.Task{ID: "t", Data: []byte("{}")}, sharedLease{q}, 1))
		q.next++
	}
	q.out += len(ds)
	q.mostOut = max(q.mostOut, q.out)
	q.mu.Unlock()
	if len(ds) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return ds, nil
}

func (q *sharedQueue) Close(context.Context) error { return nil }

func (q *sharedQueue) ended(released bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out--
	if released {
		q.released++
	}
}

type sharedLease struct{ q *sharedQueue }

func (l sharedLease) Ack(context.Context) error                    { l.q.ended(false); return nil }
func (l sharedLease) Release(context.Context, time.Duration) error { l.q.ended(true); return nil }
func (l sharedLease) ExpiresAt() time.Time                         { return time.Now().Add(time.Minute) }
func (l sharedLease) Extend(context.Context, time.Duration) (time.Time, error) {
	return time.Now().Add(time.Minute), nil
}

// Short tasks are fetched ahead in whole batches; once they take long, what waits is
// left to others, and no more is taken than can start.
func TestAheadOfASharedSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slots = 4
		q := &sharedQueue{n: 100_000, long: 4000}
		run := pipeline.New(t.Context(), pipeline.Options{Slots: slots, SharedSource: true, FetchBatchSize: 10})
		leases := stages.NewExtender(stages.ExtendOptions{MaxQueueTime: stages.MaxQueueTime, OnStall: run.ResetPrefetch})
		defer leases.Close()
		var mu sync.Mutex
		began := 0
		work := stages.RunnerFunc(func(ctx context.Context, _ pipeline.Task) (bool, []byte, error) {
			mu.Lock()
			began++
			takes := 10 * time.Millisecond
			if began > q.long {
				takes = time.Hour
			}
			mu.Unlock()
			select {
			case <-time.After(takes):
				return false, nil, nil
			case <-ctx.Done():
				return false, nil, ctx.Err()
			}
		})
		kept := pipeline.ViaUnbuffered(pipeline.From(run, "source", q), "extend", leases.Stage())
		results := pipeline.Via(kept, "execute", stages.Execute(run, work))
		judged := pipeline.Via(results, "classify", stages.Classify(stages.RetryOptions{}))
		pipeline.To(judged, "settle", stages.Settle(sink{j: &journal{}}, stages.SettleOptions{MaxConcurrentWrites: 4}))

		<-time.After(9 * time.Second) // of 10 s of short tasks
		q.mu.Lock()
		if q.calls > 500 || q.mostOut < 300 || q.mostOut > slots+400+10 {
			t.Errorf("%d calls for %d tasks, %d out at most", q.calls, q.next, q.mostOut)
		}
		q.mu.Unlock()
		<-time.After(20 * time.Second)
		q.mu.Lock()
		if q.out != slots || q.released == 0 {
			t.Errorf("%d out while %d tasks run; %d released", q.out, slots, q.released)
		}
		released := q.released
		q.mu.Unlock()
		<-time.After(2 * time.Hour)
		q.mu.Lock()
		if q.out != slots || q.released != released {
			t.Errorf("%d out while %d tasks run; %d more released; next %d began %d", q.out, slots, q.released-released, q.next, began)
		}
		q.mu.Unlock()
		run.Kill(errors.New("enough"))
		if err := run.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// A task that fails once too often is not tried again, and is told why; one that was
// interrupted always is.
func TestMaxAttempts(t *testing.T) {
	t.Parallel()
	opts := stages.RetryOptions{OnExit: true, MaxAttempts: 3}
	for _, tc := range []struct {
		attempt int
		kind    pipeline.OutcomeKind
		want    pipeline.Verdict
		why     string
	}{
		{1, pipeline.Exited, pipeline.Retry, ""},
		{2, pipeline.Exited, pipeline.Retry, ""},
		{3, pipeline.Exited, pipeline.Ack, "attempt 3: at most 3 attempts are allowed"},
		{7, pipeline.Exited, pipeline.Ack, "attempt 7: at most 3 attempts are allowed"},
		{7, pipeline.Exception, pipeline.Ack, ""}, // would not have been retried anyway
		{7, pipeline.Completed, pipeline.Ack, ""},
		{7, pipeline.Interrupted, pipeline.Release, ""},
		{7, pipeline.LeaseLost, pipeline.Release, ""},
	} {
		d := pipeline.NewDelivery(pipeline.Task{ID: "t"}, nil, tc.attempt)
		got := through(t, stages.Classify(opts), []pipeline.Result{{Delivery: d, Outcome: pipeline.Outcome{Kind: tc.kind}}})[0]
		if got.Verdict != tc.want || (tc.why == "") != (got.RetryDeniedReason == "") || !strings.Contains(got.RetryDeniedReason, tc.why) {
			t.Errorf("attempt %d, %v: %v, %q", tc.attempt, tc.kind, got.Verdict, got.RetryDeniedReason)
		}
		if e, ok := pipeline.NewTaskEvent(got, "here", time.Now()); ok {
			body := string(e.AppendJSON(nil))
			if strings.Contains(body, `"retry_denied"`) != (tc.why != "") {
				t.Error(body)
			}
		}
	}
}

// Events go to a slow sink side by side, and each task is settled when its own is
// there.
func TestSettleSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		slow := sink{j: j, write: func([]pipeline.Event) error { <-time.After(time.Second); return nil }}
		in := make(chan pipeline.Decision)
		ended := make(chan error)
		began := time.Now()
		go func() { ended <- stages.Settle(slow, stages.SettleOptions{MaxConcurrentWrites: 3})(t.Context(), in) }()
		for _, id := range []string{"0", "1", "2", "3"} {
			in <- judged(lease{j: j, id: id}, pipeline.Completed, pipeline.Ack)
			synctest.Wait()
		}
		close(in)
		if err := <-ended; err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		for _, id := range []string{"0", "1", "2", "3"} {
			if j.count("ack "+id) != 1 || j.count("event "+id+" task_completed") != 1 {
				t.Errorf("%q", j.all())
			}
		}
	})
}

// A Write that fails ends the stage, though nothing more comes.
func TestSettleSideBySideFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		broken := sink{j: j, write: func([]pipeline.Event) error { <-time.After(time.Second); return errBoom }}
		in := make(chan pipeline.Decision, 1)
		in <- judged(lease{j: j, id: "0"}, pipeline.Completed, pipeline.Ack)
		err := stages.Settle(broken, stages.SettleOptions{MaxConcurrentWrites: 3})(t.Context(), in)
		if !errors.Is(err, errBoom) || j.count("release 0 0s") != 1 || j.count("ack 0") != 0 {
			t.Errorf("%v, %q", err, j.all())
		}
	})
}

// A source that refuses a settlement for good would have every task run again and
// again: the run ends.
func TestSettleRefused(t *testing.T) {
	t.Parallel()
	for _, parallel := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			j := &journal{}
			in := make(chan pipeline.Decision, 1)
			in <- judged(lease{j: j, id: "0", ackErr: pipeline.ErrPermanent}, pipeline.Completed, pipeline.Ack)
			err := stages.Settle(sink{j: j}, stages.SettleOptions{MaxConcurrentWrites: parallel})(t.Context(), in)
			if !errors.Is(err, pipeline.ErrPermanent) || j.count("event 0 task_completed") != 1 {
				t.Errorf("%v, %q", err, j.all())
			}
		})
	}
}

// A refused renewal is retried while the lease holds. Failed is called after that, once, with
// the source's reason.
func TestExtendRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		refusals int // number of renewals that are refused, from the first
		failed   int
	}{
		"once":        {1, 0},
		"a few times": {5, 0},
		"for good":    {1 << 30, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newKept(time.Minute, func(_ context.Context, n int) error {
					if n > tc.refusals {
						return nil
					}
					return fmt.Errorf("%w: allow sqs:ChangeMessageVisibility", pipeline.ErrPermanent)
				})
				d, other := pipeline.NewDelivery(pipeline.Task{ID: "t"}, k, 1), pipeline.NewDelivery(pipeline.Task{ID: "u"}, newKept(time.Minute, k.answer), 1)
				var log bytes.Buffer
				failed, lostThen := 0, false
				pass(t, stages.ExtendOptions{LeaseDuration: time.Minute, Log: zerolog.New(zerolog.SyncWriter(&log)), OnPermanentError: func(err error) {
					if !errors.Is(err, pipeline.ErrPermanent) || !strings.Contains(err.Error(), "allow sqs:ChangeMessageVisibility") {
						t.Error(err)
					}
					failed++
					lostThen = isClosed(d.Lost()) && isClosed(other.Lost())
				}}, d, other)
				later(37 * time.Second) // the first renewals have been refused
				if failed != 0 || isClosed(d.Lost()) || len(k.renewals()) == 0 {
					t.Errorf("failed %d times, lost %v, after %v", failed, isClosed(d.Lost()), k.renewals())
				}
				later(2 * time.Minute)
				if failed != tc.failed || isClosed(d.Lost()) != (tc.failed > 0) || lostThen {
					t.Errorf("failed %d times, lost %v, both at the time %v", failed, isClosed(d.Lost()), lostThen)
				}
				if n := strings.Count(log.String(), "refuses lease extensions"); n < 1 || n > 2 {
					t.Errorf("%d lines:\n%s", n, log.String())
				}
			})
		})
	}
}

// Refusals count across tasks, also if each task finishes before its lease expires.
func TestExtendRefusedWhileTasksCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := 0
		x := stages.NewExtender(stages.ExtendOptions{LeaseDuration: 10 * time.Second, OnPermanentError: func(error) { failed++ }})
		defer x.Close()
		for range 3 { // 7 seconds each
			d := pipeline.NewDelivery(pipeline.Task{ID: "t"}, newKept(10*time.Second, func(context.Context, int) error { return pipeline.ErrPermanent }), 1)
			in, out := make(chan *pipeline.Delivery, 1), make(chan *pipeline.Delivery, 1)
			in <- d
			close(in)
			if err := x.Stage()(t.Context(), in, out); err != nil {
				t.Fatal(err)
			}
			later(7 * time.Second)
			if err := d.Ack(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if failed != 1 {
			t.Errorf("failed %d times", failed)
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

// While many writes are under way, events go together: a slow sink is not the bound of
// many short tasks.
func TestSettleGathers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		var mu sync.Mutex
		writes, most := 0, 0
		slow := sink{j: j, write: func(events []pipeline.Event) error {
			mu.Lock()
			writes++
			most = max(most, len(events))
			mu.Unlock()
			<-time.After(30 * time.Millisecond)
			return nil
		}}
		in := make(chan pipeline.Decision)
		ended := make(chan error)
		go func() { ended <- stages.Settle(slow, stages.SettleOptions{MaxConcurrentWrites: 32})(t.Context(), in) }()
		const n = 10_000
		began := time.Now()
		for i := range n { // 20 a millisecond
			in <- judged(lease{j: j, id: fmt.Sprint(i)}, pipeline.Completed, pipeline.Ack)
			if i%20 == 19 {
				<-time.After(time.Millisecond)
			}
		}
		close(in)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 600*time.Millisecond || writes > n/20 || most > 256 {
			t.Errorf("%v for what came within 500ms, in %d writes of up to %d events", took, writes, most)
		}
	})
}
