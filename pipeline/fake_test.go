package pipeline_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// recorder counts the acknowledgments and releases of each task.
type recorder struct {
	mu       sync.Mutex
	acked    map[string]int
	released map[string]int
	closed   int
}

func newRecorder() *recorder { return &recorder{acked: map[string]int{}, released: map[string]int{}} }

func (rec *recorder) counts() (acked, released int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, n := range rec.acked {
		acked += n
	}
	for _, n := range rec.released {
		released += n
	}
	return acked, released
}

// once returns an error if one of the first n tasks was not settled exactly once.
func (rec *recorder) once(n int) error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for i := range n {
		id := taskID(i)
		if got := rec.acked[id] + rec.released[id]; got != 1 {
			return fmt.Errorf("task %s was settled %d times (%d acks)", id, got, rec.acked[id])
		}
	}
	return nil
}

type lease struct {
	rec    *recorder
	id     string
	ackErr error
}

func (l lease) Ack(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.rec.mu.Lock()
	defer l.rec.mu.Unlock()
	l.rec.acked[l.id]++
	return l.ackErr
}

func (l lease) Release(ctx context.Context, _ time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.rec.mu.Lock()
	defer l.rec.mu.Unlock()
	l.rec.released[l.id]++
	return nil
}

func (l lease) Extend(context.Context, time.Duration) (time.Time, error) {
	return time.Time{}, pipeline.ErrLeaseLost
}

func (l lease) ExpiresAt() time.Time { return time.Unix(1<<40, 0) }

func taskID(i int) string { return fmt.Sprintf("task-%d", i) }

// source returns n tasks. If n is negative, the tasks never end.
type source struct {
	rec      *recorder
	n        int
	err      error // returned after the last task; nil means io.EOF
	received int
	maxLimit int  // largest limit of a Receive
	hang     bool // Receive blocks after the last task instead of returning an error
}

func (s *source) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.maxLimit = max(s.maxLimit, limit)
	var ds []*pipeline.Delivery
	for len(ds) < limit && (s.n < 0 || s.received < s.n) {
		id := taskID(s.received)
		s.received++
		ds = append(ds, pipeline.NewDelivery(pipeline.Task{ID: id, Data: []byte(`{}`)}, lease{rec: s.rec, id: id}, 1))
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
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	s.rec.closed++
	return nil
}

// shared is a source that other workers consume, too.
type shared struct {
	source
	batchSize int
}

func (s *shared) Hints() pipeline.Hints { return pipeline.Hints{Shared: true, BatchSize: s.batchSize} }

// complete is an execution stage that completes every task at once.
func complete(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[pipeline.Result]) error {
	for d := range in {
		r := pipeline.Result{Delivery: d, Outcome: pipeline.Outcome{Kind: pipeline.Completed}}
		if out.Send(ctx, r) != nil {
			return nil
		}
		d.ReleaseSlot()
	}
	return nil
}

// ackAll acknowledges every result.
func ackAll(ctx context.Context, in <-chan pipeline.Result) error {
	for r := range in {
		if err := r.Ack(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pass is a stage that passes all deliveries on.
func pass(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[*pipeline.Delivery]) error {
	for d := range in {
		if out.Send(ctx, d) != nil {
			return nil
		}
	}
	return nil
}
