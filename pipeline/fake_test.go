package pipeline_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// books is what a fake provider knows of each task.
type books struct {
	mu       sync.Mutex
	acked    map[string]int
	released map[string]int
	closed   int
}

func newBooks() *books { return &books{acked: map[string]int{}, released: map[string]int{}} }

func (b *books) counts() (acked, released int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.acked {
		acked += n
	}
	for _, n := range b.released {
		released += n
	}
	return acked, released
}

// once reports every task that was not settled exactly once among ids.
func (b *books) once(n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range n {
		id := taskID(i)
		if got := b.acked[id] + b.released[id]; got != 1 {
			return fmt.Errorf("task %s was settled %d times (%d acks)", id, got, b.acked[id])
		}
	}
	return nil
}

type lease struct {
	b      *books
	id     string
	ackErr error
}

func (l lease) Ack(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	l.b.acked[l.id]++
	return l.ackErr
}

func (l lease) Release(ctx context.Context, _ time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	l.b.released[l.id]++
	return nil
}

func (l lease) Extend(context.Context, time.Duration) (time.Time, error) {
	return time.Time{}, pipeline.ErrLeaseLost
}

func (l lease) ExpiresAt() time.Time { return time.Unix(1<<40, 0) }

func taskID(i int) string { return fmt.Sprintf("task-%d", i) }

// source hands out n tasks; n < 0 is without end.
type source struct {
	b        *books
	n        int
	err      error // instead of io.EOF
	received int
	mostOut  int // the most that was ever asked for at once
	hang     bool
}

func (s *source) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.mostOut = max(s.mostOut, limit)
	var ds []*pipeline.Delivery
	for len(ds) < limit && (s.n < 0 || s.received < s.n) {
		id := taskID(s.received)
		s.received++
		ds = append(ds, pipeline.NewDelivery(pipeline.Task{ID: id, Data: []byte(`{}`)}, lease{b: s.b, id: id}, 1))
	}
	if len(ds) > 0 {
		return ds, nil
	}
	if s.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s.err != nil {
		return nil, s.err
	}
	return nil, io.EOF
}

func (s *source) Close(context.Context) error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.closed++
	return nil
}

// complete is an execution that completes every task at once.
func complete(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- pipeline.Result) error {
	for d := range in {
		r := pipeline.Result{Delivery: d, Outcome: pipeline.Outcome{Kind: pipeline.Completed}}
		if pipeline.Send(ctx, out, r) != nil {
			return nil
		}
		d.ReleaseSlot()
	}
	return nil
}

// ackAll settles every result.
func ackAll(ctx context.Context, in <-chan pipeline.Result) error {
	for r := range in {
		if err := r.Ack(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pass hands everything on.
func pass(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- *pipeline.Delivery) error {
	for d := range in {
		if pipeline.Send(ctx, out, d) != nil {
			return nil
		}
	}
	return nil
}
