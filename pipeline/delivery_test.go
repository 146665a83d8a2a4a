package pipeline_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

func deliver(rec *recorder, id string) *pipeline.Delivery {
	return pipeline.NewDelivery(pipeline.Task{ID: id}, lease{Rec: rec, ID: id}, 0)
}

func TestDelivery_SettlesOnce(t *testing.T) {
	t.Parallel()
	settlements := map[string]func(*pipeline.Delivery) error{
		"ack":        func(d *pipeline.Delivery) error { return d.Ack(context.Background()) },
		"release":    func(d *pipeline.Delivery) error { return d.Release(context.Background(), time.Second) },
		"let expire": func(d *pipeline.Delivery) error { return d.LetExpire() },
	}
	for first, f := range settlements {
		for second, g := range settlements {
			t.Run(first+" then "+second, func(t *testing.T) {
				t.Parallel()
				rec := newRecorder()
				d := deliver(rec, "x")
				if err := f(d); err != nil {
					t.Fatal(err)
				}
				err := g(d)
				if same := first == second; same != (err == nil) || !same && !errors.Is(err, pipeline.ErrAlreadySettled) {
					t.Errorf("second settlement: %v", err)
				}
				if acked, released := rec.Settled(); acked+released > 1 {
					t.Errorf("%d requests to the source, want at most 1", acked+released)
				}
				if !d.Plumbing().Settled() {
					t.Error("Settled() = false after settling")
				}
			})
		}
	}
}

func TestDelivery_ConcurrentSettlementsSendOneRequest(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	d := deliver(rec, "x")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if i%2 == 0 {
				_ = d.Ack(context.Background())
			} else {
				_ = d.Release(context.Background(), 0)
			}
		})
	}
	wg.Wait()
	if acked, released := rec.Settled(); acked+released != 1 {
		t.Errorf("acked %d, released %d; want one request", acked, released)
	}
}

func TestDelivery_LeaseLost(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	d := deliver(rec, "x")
	select {
	case <-d.Lost():
		t.Fatal("a new delivery is lost")
	default:
	}
	if _, err := d.Extend(context.Background(), time.Minute); !errors.Is(err, pipeline.ErrLeaseLost) {
		t.Fatalf("extend: %v", err)
	}
	<-d.Lost()
	d.Plumbing().MarkLeaseLost(errors.New("again")) // does not panic
	if err := d.Ack(context.Background()); !errors.Is(err, pipeline.ErrLeaseLost) {
		t.Errorf("ack: %v", err)
	}
	if acked, released := rec.Settled(); acked+released != 0 {
		t.Errorf("requests for a lost task: %d acks, %d releases", acked, released)
	}
	d2 := deliver(rec, "y")
	d2.Plumbing().MarkLeaseLost(errors.New("network"))
	if err := d2.Release(context.Background(), 0); err != nil {
		t.Errorf("release of a lost task: %v", err)
	}
	if _, released := rec.Settled(); released != 0 {
		t.Error("the source received a release of a lost task")
	}
}

func TestDelivery_AckReturnsError(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	broken := errors.New("network")
	d := pipeline.NewDelivery(pipeline.Task{ID: "x"}, lease{Rec: rec, ID: "x", AckErr: broken}, 3)
	if err := d.Ack(context.Background()); !errors.Is(err, broken) {
		t.Errorf("ack: %v", err)
	}
	if d.Attempt != 3 || !d.Plumbing().Settled() {
		t.Errorf("attempt %d, settled %v", d.Attempt, d.Plumbing().Settled())
	}
}

func TestDelivery_NilLease(t *testing.T) {
	t.Parallel()
	d := pipeline.NewDelivery(pipeline.Task{ID: "x"}, nil, 0)
	if d.Attempt != 1 || !d.Plumbing().ExpiresAt().IsZero() {
		t.Errorf("attempt %d, expires %v", d.Attempt, d.Plumbing().ExpiresAt())
	}
	if err := d.Ack(context.Background()); err != nil {
		t.Error(err)
	}
}
