package pipeline_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
)

// After its lease has expired, a delivery sends no request to the source, because another worker
// may have received the task.
func TestDelivery_SendsNoRequestForExpiredLease(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(context.Context, *pipeline.Delivery) error{
		"ack":     func(ctx context.Context, d *pipeline.Delivery) error { return d.Ack(ctx) },
		"release": func(ctx context.Context, d *pipeline.Delivery) error { return d.Release(ctx, 0) },
		"extend": func(ctx context.Context, d *pipeline.Delivery) error {
			_, err := d.Extend(ctx, time.Minute)
			return err
		},
	} {
		for after, lost := range map[time.Duration]bool{59 * time.Second: false, 61 * time.Second: true} {
			t.Run(name+" after "+after.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					requests := 0
					l := pipelinetest.FuncLease{
						Expiry:    time.Now().Add(time.Minute),
						OnAck:     func(context.Context) error { requests++; return nil },
						OnRelease: func(context.Context, time.Duration) error { requests++; return nil },
						OnExtend:  func(context.Context, time.Duration) error { requests++; return nil },
					}
					d := pipeline.NewDelivery(pipeline.Task{ID: "t"}, l, 1)
					if !d.Held() || d.Plumbing().RemainingLease() > time.Minute {
						t.Fatal("Held is false before the lease expires")
					}
					<-time.After(after)
					err := do(t.Context(), d)
					if (requests == 0) != lost {
						t.Errorf("%d requests to the source", requests)
					}
					if wantErr := lost && name != "release"; errors.Is(err, pipeline.ErrLeaseLost) != wantErr {
						t.Errorf("%v", err)
					}
					if isClosed(d.Lost()) != lost {
						t.Errorf("lost = %v", !lost)
					}
				})
			})
		}
	}
}

// Extend makes the lease expire later.
func TestDelivery_HeldAfterExtend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := pipeline.NewDelivery(pipeline.Task{ID: "t"}, pipelinetest.FuncLease{Expiry: time.Now().Add(time.Minute)}, 1)
		<-time.After(50 * time.Second)
		if _, err := d.Extend(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		<-time.After(50 * time.Second)
		if !d.Held() || d.Plumbing().RemainingLease().Round(time.Second) != 10*time.Second {
			t.Errorf("held %v, remaining lease %v", d.Held(), d.Plumbing().RemainingLease())
		}
		<-time.After(20 * time.Second)
		held, cause, again := d.Held(), d.Plumbing().ReportLoss(), d.Plumbing().ReportLoss()
		if held || !errors.Is(cause, pipeline.ErrLeaseLost) || again != nil {
			t.Errorf("held %v; loss reported as %v, then as %v", held, cause, again)
		}
	})
}

// A delivery without a lease is always held, and its event is never withheld.
func TestDelivery_HeldWithoutLease(t *testing.T) {
	t.Parallel()
	d := pipeline.NewDelivery(pipeline.Task{ID: "t"}, nil, 1)
	e, _ := pipeline.NewTaskEvent(pipeline.Decision{Delivery: d, Outcome: pipeline.Outcome{Kind: pipeline.Completed}}, "here", time.Now())
	if !d.Held() || e.Withheld != nil {
		t.Error("a delivery without a lease is lost or withheld")
	}
}

// If a method of a Lease panics, the Delivery returns the panic as an error.
func TestDelivery_RecoversPanicsOfLease(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	newDelivery := func() *pipeline.Delivery {
		return pipeline.NewDelivery(pipeline.Task{ID: "t"}, pipelinetest.FuncLease{
			Expiry:    time.Now().Add(time.Hour),
			OnAck:     func(context.Context) error { panic("a nil pointer in the provider's SDK") },
			OnRelease: func(context.Context, time.Duration) error { panic("a nil pointer in the provider's SDK") },
			OnExtend:  func(context.Context, time.Duration) error { panic("a nil pointer in the provider's SDK") },
		}, 1)
	}
	var p *pipeline.PanicError
	if err := newDelivery().Ack(ctx); !errors.As(err, &p) {
		t.Errorf("Ack: %v", err)
	}
	if err := newDelivery().Release(ctx, 0); !errors.As(err, &p) {
		t.Errorf("Release: %v", err)
	}
	d := newDelivery()
	if _, err := d.Extend(ctx, time.Minute); !errors.As(err, &p) || !d.Held() {
		t.Errorf("Extend: %v, held %v", err, d.Held())
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
