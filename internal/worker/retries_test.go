package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// slowSource returns n tasks, one per hour. Its Receive can be interrupted.
type slowSource struct {
	n, next int
	at      time.Time
}

func (s *slowSource) Receive(ctx context.Context, _ int) ([]*pipeline.Delivery, error) {
	if s.next == s.n {
		return nil, io.EOF
	}
	select {
	case <-time.After(time.Until(s.at)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.next++
	s.at = s.at.Add(time.Hour)
	return []*pipeline.Delivery{pipeline.NewDelivery(pipeline.Task{ID: fmt.Sprint("t", s.next)}, nil, 1)}, nil
}

func (s *slowSource) Close(context.Context) error { return nil }

// settle decides about a delivery and settles it, as the stages do.
func settle(t *testing.T, s *retryingSource, d *pipeline.Delivery, verdict pipeline.Verdict) {
	t.Helper()
	decision := pipeline.Decision{Delivery: d, Verdict: verdict}
	s.decide(&decision)
	err := d.Ack
	if decision.Verdict == pipeline.Retry {
		err = func(ctx context.Context) error { return d.Release(ctx, 0) }
	}
	if err := err(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func receiveOne(t *testing.T, s *retryingSource, id string, attempt int) *pipeline.Delivery {
	t.Helper()
	ds, err := s.Receive(t.Context(), 10)
	if err != nil || len(ds) != 1 || ds[0].Task.ID != id || ds[0].Attempt != attempt {
		t.Fatalf("got %v, %v, want attempt %d of %s", ds, err, attempt, id)
	}
	return ds[0]
}

// A retry is delivered when it is due, even while the source waits for further tasks. The backoff doubles.
// The source is exhausted only when no task can be retried any more.
func TestRetryingSource_DeliversRetriesWhileSourceWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &retryingSource{Source: &slowSource{n: 2, at: time.Now()}, retries: 2, backoff: 10 * time.Second, limit: -1}
		began := time.Now()
		settle(t, s, receiveOne(t, s, "t1", 1), pipeline.Retry)
		d := receiveOne(t, s, "t1", 2)
		if waited := time.Since(began); waited < 7500*time.Millisecond || waited > 12500*time.Millisecond {
			t.Errorf("the first retry is after %v, want 10s and at most a quarter more or less", waited)
		}
		began = time.Now()
		settle(t, s, d, pipeline.Retry)
		d = receiveOne(t, s, "t1", 3)
		if waited := time.Since(began); waited < 15*time.Second || waited > 25*time.Second {
			t.Errorf("the second retry is after %v, want 20s and at most a quarter more or less", waited)
		}
		settle(t, s, d, pipeline.Retry) // denied: the task has been retried twice
		d = receiveOne(t, s, "t2", 1)
		ended := make(chan error)
		go func() { _, err := s.Receive(t.Context(), 10); ended <- err }()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Errorf("the source ended with %v, although t2 can be retried", err)
		default:
			settle(t, s, d, pipeline.Ack)
			if err := <-ended; !errors.Is(err, io.EOF) {
				t.Errorf("error %v, want io.EOF", err)
			}
		}
	})
}

// A delivery that a stage releases or lets expire counts as settled: the source does not wait for it.
func TestRetryingSource_OtherSettlements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &retryingSource{Source: &slowSource{n: 3, at: time.Now()}, retries: 2, limit: 2}
		if err := receiveOne(t, s, "t1", 1).LetExpire(); err != nil {
			t.Error(err)
		}
		if err := receiveOne(t, s, "t2", 1).Release(t.Context(), 0); err != nil {
			t.Error(err)
		}
		if ds, err := s.Receive(t.Context(), 10); !errors.Is(err, io.EOF) || len(ds) > 0 {
			t.Errorf("after the limit of 2 tasks: got %v, %v", ds, err)
		}
	})
}

// When the tasks that wait for their retries need too much memory, no further tasks are read.
func TestRetryingSource_LimitsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &retryingSource{Source: &slowSource{n: 2, at: time.Now()}, retries: 1, backoff: 5 * time.Hour, limit: -1}
		d := receiveOne(t, s, "t1", 1)
		s.bytes = maxWaitingBytes
		settle(t, s, d, pipeline.Retry)
		receiveOne(t, s, "t1", 2) // before t2, which has been available for hours
	})
}
