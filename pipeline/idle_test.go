package pipeline_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// idler is a source whose requests stay open until there is a task or the source is idle.
type idler struct {
	limits []int
	until  []time.Duration // time from each call of ReceiveUntilIdle to idleAt
	tasks  int
	takes  time.Duration // delay of each response
}

func (s *idler) Receive(context.Context, int) ([]*pipeline.Delivery, error) {
	return nil, errors.New("Receive was called on an Idler")
}

func (s *idler) ReceiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) ([]*pipeline.Delivery, error) {
	s.limits = append(s.limits, limit)
	s.until = append(s.until, time.Until(idleAt()))
	<-time.After(s.takes)
	if s.tasks > 0 {
		s.tasks--
		return []*pipeline.Delivery{pipeline.NewDelivery(pipeline.Task{ID: "a"}, nil, 1)}, nil
	}
	for time.Now().Before(idleAt()) {
		<-time.After(time.Until(idleAt()))
	}
	return nil, pipeline.ErrIdle
}

func (*idler) Close(context.Context) error { return nil }

func ack(ctx context.Context, in <-chan *pipeline.Delivery) error {
	for d := range in {
		if err := d.Ack(ctx); err != nil {
			return err
		}
	}
	return nil
}

// If the source is an Idler, only the source determines whether it is idle. A source whose response
// is late is not idle.
func TestIdleTimeout_IsDelegatedToIdler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &idler{tasks: 3, takes: 10 * time.Second}
		r := pipeline.New(t.Context(), pipeline.Options{IdleTimeout: 3 * time.Second})
		pipeline.To(pipeline.From(r, "source", s), "ack", ack)
		if err := r.Wait(); err != nil || r.Status().Received != 3 || !r.Status().SourceExhausted {
			t.Errorf("received %d, error %v", r.Status().Received, err)
		}
		for _, d := range s.until {
			if d != 3*time.Second {
				t.Errorf("times until idleAt %v, want 3s each", s.until)
			}
		}
	})
}

// A request never asks for more deliveries than MaxDeliveries allows, and no request follows the
// last allowed delivery.
func TestRun_MaxDeliveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := int64(3)
		s := &idler{tasks: 10}
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 8, IdleTimeout: time.Minute, MaxDeliveries: &limit})
		pipeline.To(pipeline.From(r, "source", s), "ack", ack)
		if err := r.Wait(); err != nil || r.Status().Received != 3 || r.Status().SourceExhausted {
			t.Errorf("%d received, %v", r.Status().Received, err)
		}
		if want := []int{3, 2, 1}; len(s.limits) != 3 || s.limits[0] != want[0] || s.limits[1] != want[1] || s.limits[2] != want[2] {
			t.Errorf("limits %v, want %v", s.limits, want)
		}
	})
}

// If LastFailure of the source panics, the run fails.
func TestIdleTimeout_PanicInLastFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 1, IdleTimeout: time.Minute})
		pipeline.To(pipeline.Via(pipeline.From(r, "source", &faultySource{}), "complete", complete), "settle", settleByKind)
		var p *pipeline.PanicError
		if err := r.Wait(); !errors.As(err, &p) || p.Value != "a fault" {
			t.Errorf("Wait: %v", err)
		}
	})
}

// faultySource has no tasks, and its LastFailure panics.
type faultySource struct{ unresponsiveSource }

func (*faultySource) Receive(ctx context.Context, _ int) ([]*pipeline.Delivery, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (*faultySource) LastFailure() time.Time { panic("a fault") }
