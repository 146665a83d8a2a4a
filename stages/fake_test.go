package stages_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// journal is what a fake provider and a fake sink were told, in order.
type journal struct {
	mu     sync.Mutex
	lines  []string
	events []pipeline.Event
	closed int
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

// all returns the lines so far.
func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.lines...)
}

// count is how often line was told.
func (j *journal) count(line string) int {
	n := 0
	for _, l := range j.all() {
		if l == line {
			n++
		}
	}
	return n
}

// lease writes to a journal what becomes of its task.
type lease struct {
	j      *journal
	id     string
	local  bool // never expires
	ackErr error
	hang   <-chan struct{} // an ack that takes until then
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
	l.j.add("ack %s", l.id)
	return l.ackErr
}

func (l lease) Release(ctx context.Context, delay time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.j.add("release %s %v", l.id, delay)
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

// source hands out n tasks, or without end for n < 0.
type source struct {
	j        *journal
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
		d := pipeline.NewDelivery(pipeline.Task{ID: id, Data: []byte(`{}`)}, lease{j: s.j, id: id, local: s.local}, 1)
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
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	s.j.closed++
	return nil
}

// sink keeps events, and writes to the journal which.
type sink struct {
	j     *journal
	write func(events []pipeline.Event) error // may be nil
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
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	for _, e := range events {
		s.j.lines = append(s.j.lines, fmt.Sprintf("event %s %s", e.TaskID, e.Type))
		s.j.events = append(s.j.events, e)
	}
	return nil
}

func (s sink) Close(context.Context) error { return nil }

// through runs one stage on items, outside of a run, and returns what comes out.
func through[In, Out pipeline.Item](t *testing.T, stage pipeline.Stage[In, Out], items []In) []Out {
	t.Helper()
	in, out := make(chan In, len(items)), make(chan Out, len(items))
	for _, item := range items {
		in <- item
	}
	close(in)
	if err := stage(t.Context(), in, out); err != nil {
		t.Fatal(err)
	}
	close(out)
	var got []Out
	for item := range out {
		got = append(got, item)
	}
	return got
}

// deliveries returns n deliveries on one journal.
func deliveries(j *journal, n int) []*pipeline.Delivery {
	ds := make([]*pipeline.Delivery, n)
	for i := range ds {
		id := fmt.Sprint(i)
		ds[i] = pipeline.NewDelivery(pipeline.Task{ID: id, Data: []byte(`{}`)}, lease{j: j, id: id}, 1)
	}
	return ds
}

var errBoom = errors.New("boom")
