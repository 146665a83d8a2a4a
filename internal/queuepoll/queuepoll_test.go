package queuepoll_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/internal/queuepoll"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
)

// queue is a queue that contains waiting messages. Each request takes the time takes.
type queue struct {
	mu                sync.Mutex
	waiting, released int
	gives             int // maximum number of messages per request
	takes             time.Duration
	running, peak     int
	err               error
}

// countedLease returns a lease whose release increments released, which mu guards.
func countedLease(mu *sync.Mutex, released *int) pipeline.Lease {
	return pipelinetest.FuncLease{
		Expiry: time.Now().Add(time.Hour),
		OnRelease: func(context.Context, time.Duration) error {
			mu.Lock()
			defer mu.Unlock()
			*released++
			return nil
		},
	}
}

func (q *queue) ask(ctx context.Context, n int, wait time.Duration, _ string) (all []queuepoll.Message, err error) {
	q.mu.Lock()
	q.running++
	q.peak = max(q.peak, q.running)
	q.mu.Unlock()

	select {
	case <-time.After(q.takes):
	case <-ctx.Done():
		err = ctx.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	if err == nil {
		err = q.err
	}
	for err == nil && len(all) < min(n, q.gives) && q.waiting > 0 {
		q.waiting--
		all = append(all, queuepoll.Message{ID: "m", Body: `{"task_id": "a", "data": 1}`, Lease: countedLease(&q.mu, &q.released)})
	}
	return all, err
}

func (q *queue) poller(opts queuepoll.Options) *queuepoll.Poller {
	opts.Provider, opts.Receive, opts.MaxBatchSize, opts.Wait, opts.Lease = "test", q.ask, 10, 20*time.Second, time.Minute
	opts.Classify = func(err error) retry.Class {
		if errors.Is(err, errFinal) {
			return retry.Permanent
		}
		return retry.Transient
	}
	opts.Explain = func(err error) error { return err }
	return queuepoll.New(opts)
}

var errFinal = errors.New("there is no such queue")

// The Poller sends concurrent requests while responses contain full batches. With
// Options.PartialBatches, it does so while responses contain any messages.
func TestReceive_SendsConcurrentRequests(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		gives   int
		partial bool
		peak    int
	}{
		"they come full":        {10, false, 8},
		"they do not":           {4, false, 1},
		"they need not be full": {4, true, 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := &queue{waiting: 500, gives: tc.gives, takes: time.Second}
				p := q.poller(queuepoll.Options{PartialBatches: tc.partial})
				for got := 0; got < 500; {
					ds, err := p.Receive(t.Context(), 100)
					if err != nil {
						t.Fatal(err)
					}
					got += len(ds)
				}
				p.Close(t.Context())
				if q.peak != tc.peak {
					t.Errorf("at most %d concurrent requests, want %d", q.peak, tc.peak)
				}
			})
		})
	}
}

// Receive requests at most as many messages as it may return.
func TestNoMoreThanAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &queue{waiting: 100, gives: 10, takes: time.Second}
		p := q.poller(queuepoll.Options{})
		for range 5 {
			if ds, err := p.Receive(t.Context(), 3); err != nil || len(ds) != 3 {
				t.Fatalf("%d tasks, %v", len(ds), err)
			}
		}
		p.Close(t.Context())
		if q.waiting != 85 || q.released != 0 {
			t.Errorf("%d wait, %d released", q.waiting, q.released)
		}
	})
}

// Close gives open requests a short time to finish, and releases the messages that they receive. With
// Options.WaitForOpenPolls, Close waits until the requested wait of the requests is over.
func TestClose(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		takes             time.Duration
		waitOut           bool
		after             time.Duration
		waiting, released int
	}{
		"it comes soon":    {200 * time.Millisecond, false, 200 * time.Millisecond, 0, 1},
		"it does not":      {10 * time.Second, false, 250 * time.Millisecond, 1, 0},
		"it is waited out": {10 * time.Second, true, 10 * time.Second, 0, 1},
		"not for ever":     {time.Hour, true, 20*time.Second + 250*time.Millisecond, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := &queue{waiting: 1, gives: 10, takes: tc.takes}
				p := q.poller(queuepoll.Options{WaitForOpenPolls: tc.waitOut})
				ctx, cancel := context.WithCancel(t.Context())
				began := time.Now()
				go func() {
					synctest.Wait()
					cancel()
				}()
				if _, err := p.Receive(ctx, 5); !errors.Is(err, context.Canceled) {
					t.Errorf("Receive: %v", err)
				}
				p.Close(t.Context())
				if took := time.Since(began); took != tc.after || q.waiting != tc.waiting || q.released != tc.released {
					t.Errorf("after %v: %d wait, %d released", took, q.waiting, q.released)
				}
			})
		})
	}
}

// Receive retries after a transient error, and LastFailure reports it meanwhile. After a permanent
// error, all calls of Receive return this error.
func TestErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &queue{waiting: 1, gives: 10, err: errors.New("no route to host")}
		p := q.poller(queuepoll.Options{})
		got := make(chan []*pipeline.Delivery)
		go func() {
			ds, _ := p.Receive(t.Context(), 5)
			got <- ds
		}()
		<-time.After(30 * time.Second)
		if at := p.LastFailure(); at != time.Now() {
			t.Errorf("it could last not be asked at %v", at)
		}
		q.mu.Lock()
		q.err = nil
		q.mu.Unlock()
		if ds := <-got; len(ds) != 1 {
			t.Errorf("%d tasks", len(ds))
		}
		q.mu.Lock()
		q.err = errFinal
		q.mu.Unlock()
		for range 2 {
			if _, err := p.Receive(t.Context(), 5); !errors.Is(err, errFinal) {
				t.Errorf("%v", err)
			}
		}
		p.Close(t.Context())
	})
}
