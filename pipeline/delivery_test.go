package pipeline_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

func deliver(b *books, id string) *pipeline.Delivery {
	return pipeline.NewDelivery(pipeline.Task{ID: id}, lease{b: b, id: id}, 0)
}

func TestDeliveryIsSettledOnce(t *testing.T) {
	t.Parallel()
	verbs := map[string]func(*pipeline.Delivery) error{
		"ack":     func(d *pipeline.Delivery) error { return d.Ack(context.Background()) },
		"release": func(d *pipeline.Delivery) error { return d.Release(context.Background(), time.Second) },
		"abandon": func(d *pipeline.Delivery) error { return d.LetExpire() },
	}
	for first, f := range verbs {
		for second, g := range verbs {
			t.Run(first+" then "+second, func(t *testing.T) {
				t.Parallel()
				b := newBooks()
				d := deliver(b, "x")
				if err := f(d); err != nil {
					t.Fatal(err)
				}
				err := g(d)
				if same := first == second; same != (err == nil) || !same && !errors.Is(err, pipeline.ErrAlreadySettled) {
					t.Errorf("second settlement: %v", err)
				}
				if acked, released := b.counts(); acked+released > 1 {
					t.Errorf("the source was told %d times", acked+released)
				}
				if !d.Settled() {
					t.Error("not settled")
				}
			})
		}
	}
}

func TestConcurrentSettlementsReachTheSourceOnce(t *testing.T) {
	t.Parallel()
	b := newBooks()
	d := deliver(b, "x")
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
	if acked, released := b.counts(); acked+released != 1 {
		t.Errorf("acked %d, released %d; want one of both", acked, released)
	}
}

func TestLostDelivery(t *testing.T) {
	t.Parallel()
	b := newBooks()
	d := deliver(b, "x")
	select {
	case <-d.Lost():
		t.Fatal("lost from the start")
	default:
	}
	if _, err := d.Extend(context.Background(), time.Minute); !errors.Is(err, pipeline.ErrLeaseLost) {
		t.Fatalf("extend: %v", err)
	}
	<-d.Lost()
	d.MarkLeaseLost(errors.New("again")) // does not panic
	if err := d.Ack(context.Background()); !errors.Is(err, pipeline.ErrLeaseLost) {
		t.Errorf("ack: %v", err)
	}
	if acked, released := b.counts(); acked+released != 0 {
		t.Errorf("the source was told of a lost task: %d acks, %d releases", acked, released)
	}
	d2 := deliver(b, "y")
	d2.MarkLeaseLost(errors.New("network"))
	if err := d2.Release(context.Background(), 0); err != nil {
		t.Errorf("release of a lost task: %v", err)
	}
	if _, released := b.counts(); released != 0 {
		t.Error("the source was told of a lost task")
	}
}

func TestFailedAckIsReported(t *testing.T) {
	t.Parallel()
	b := newBooks()
	broken := errors.New("network")
	d := pipeline.NewDelivery(pipeline.Task{ID: "x"}, lease{b: b, id: "x", ackErr: broken}, 3)
	if err := d.Ack(context.Background()); !errors.Is(err, broken) {
		t.Errorf("ack: %v", err)
	}
	if d.Attempt != 3 || !d.Settled() {
		t.Errorf("attempt %d, settled %v", d.Attempt, d.Settled())
	}
}

func TestNilLease(t *testing.T) {
	t.Parallel()
	d := pipeline.NewDelivery(pipeline.Task{ID: "x"}, nil, 0)
	if d.Attempt != 1 || !d.ExpiresAt().IsZero() {
		t.Errorf("attempt %d, expires %v", d.Attempt, d.ExpiresAt())
	}
	if err := d.Ack(context.Background()); err != nil {
		t.Error(err)
	}
}
