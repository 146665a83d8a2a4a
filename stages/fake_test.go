package stages_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// recorder records the requests to a fake source and the events of a fake sink, in order.
type recorder struct {
	mu     sync.Mutex
	lines  []string
	events []pipeline.Event
	closed int
}

func (rec *recorder) add(format string, args ...any) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.lines = append(rec.lines, fmt.Sprintf(format, args...))
}

// all returns the records in order.
func (rec *recorder) all() []string {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return append([]string(nil), rec.lines...)
}

// count returns the number of records that are equal to line.
func (rec *recorder) count(line string) int {
	n := 0
	for _, l := range rec.all() {
		if l == line {
			n++
		}
	}
	return n
}

// lease is a lease that records the acknowledgment and the release of its task.
type lease struct {
	rec    *recorder
	id     string
	local  bool // the lease never expires
	ackErr error
	hang   <-chan struct{} // if set, Ack blocks until hang is closed
}

func (l lease) Ack(ctx context.Context) error {
	if l.hang != nil {
		select {
		case <-l.hang:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	l.rec.add("ack %s", l.id)
	return l.ackErr
}

func (l lease) Release(ctx context.Context, delay time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.rec.add("release %s %v", l.id, delay)
	return l.ackErr
}

func (l lease) Extend(context.Context, time.Duration) (time.Time, error) {
	return time.Time{}, pipeline.ErrLeaseLost
}

func (l lease) ExpiresAt() time.Time {
	if l.local {
		return time.Time{}
	}
	return time.Unix(1<<40, 0)
}

// source returns n tasks. If n is negative, the tasks never end.
type source struct {
	rec      *recorder
	n        int
	local    bool
	received int
	each     func(i int, d *pipeline.Delivery)
}

func (s *source) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var ds []*pipeline.Delivery
	for len(ds) < limit && (s.n < 0 || s.received < s.n) {
		id := fmt.Sprint(s.received)
		d := pipeline.NewDelivery(pipeline.Task{ID: id, Data: []byte(`{}`)}, lease{rec: s.rec, id: id, local: s.local}, 1)
		if s.each != nil {
			s.each(s.received, d)
		}
		s.received++
		ds = append(ds, d)
	}
	if len(ds) == 0 {
		return nil, io.EOF
	}
	return ds, nil
}

func (s *source) Close(context.Context) error {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	s.rec.closed++
	return nil
}

// sink is a sink that records events.
type sink struct {
	rec   *recorder
	write func(events []pipeline.Event) error // called by Write; may be nil
}

func (s sink) Write(ctx context.Context, events []pipeline.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.write != nil {
		if err := s.write(events); err != nil {
			return err
		}
	}
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	for _, e := range events {
		s.rec.lines = append(s.rec.lines, fmt.Sprintf("event %s %s", e.TaskID, e.Type))
		s.rec.events = append(s.rec.events, e)
	}
	return nil
}

func (s sink) Close(context.Context) error { return nil }

// deliveries returns n deliveries whose leases record their requests in rec.
func deliveries(rec *recorder, n int) []*pipeline.Delivery {
	ds := make([]*pipeline.Delivery, n)
	for i := range ds {
		id := fmt.Sprint(i)
		ds[i] = pipeline.NewDelivery(pipeline.Task{ID: id, Data: []byte(`{}`)}, lease{rec: rec, id: id}, 1)
	}
	return ds
}

var errBoom = errors.New("boom")
