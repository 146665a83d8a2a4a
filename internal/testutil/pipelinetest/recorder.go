package pipelinetest

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/ctworker/ctworker/pipeline"
)

// A Recorder records the requests to a Source and its leases, and the events of a Sink. The zero value
// is ready to use. Its methods are safe for concurrent use.
type Recorder struct {
	mu       sync.Mutex
	lines    []string
	events   []pipeline.Event
	acked    map[string]int
	released map[string]int
	closed   int
}

// Lines returns a line for each request and each event, in order: "ack ID", "release ID DELAY",
// "event ID TYPE", and the lines added by Add.
func (r *Recorder) Lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

// Add adds a line.
func (r *Recorder) Add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

// Count returns the number of lines that are equal to line.
func (r *Recorder) Count(line string) (n int) {
	for _, l := range r.Lines() {
		if l == line {
			n++
		}
	}
	return n
}

// Events returns the events in order.
func (r *Recorder) Events() []pipeline.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]pipeline.Event(nil), r.events...)
}

// Settled returns the numbers of acknowledgments and releases.
func (r *Recorder) Settled() (acked, released int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.acked {
		acked += n
	}
	for _, n := range r.released {
		released += n
	}
	return acked, released
}

// SettledTask returns how often a task was acknowledged and released.
func (r *Recorder) SettledTask(id string) (acked, released int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.acked[id], r.released[id]
}

// Once returns an error if one of the first n tasks of a Source was not settled exactly once.
func (r *Recorder) Once(n int) error {
	for i := range n {
		if acked, released := r.SettledTask(TaskID(i)); acked+released != 1 {
			return fmt.Errorf("task %s was acknowledged %d times and released %d times", TaskID(i), acked, released)
		}
	}
	return nil
}

// Closed returns how often the Source was closed.
func (r *Recorder) Closed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

func (r *Recorder) settled(of *map[string]int, id, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *of == nil {
		*of = map[string]int{}
	}
	(*of)[id]++
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

// TaskID returns the ID of the task with the number i of a Source.
func TaskID(i int) string { return fmt.Sprint(i) }

// A Source returns tasks with the data {}.
type Source struct {
	Rec   *Recorder
	N     int // number of tasks; if it is negative, the tasks never end
	Local bool
	Err   error // returned after the last task; nil means io.EOF
	Hang  bool  // Receive blocks after the last task
	Hint  pipeline.Hints
	Each  func(i int, d *pipeline.Delivery) // called for each delivery; may be nil

	Received int // number of tasks returned so far
	MaxLimit int // largest limit of a Receive
}

// Receive implements pipeline.Source.
func (s *Source) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.MaxLimit = max(s.MaxLimit, limit)
	var ds []*pipeline.Delivery
	for len(ds) < limit && (s.N < 0 || s.Received < s.N) {
		d := NewDelivery(Lease{Rec: s.Rec, ID: TaskID(s.Received), Local: s.Local})
		if s.Each != nil {
			s.Each(s.Received, d)
		}
		s.Received++
		ds = append(ds, d)
	}
	switch {
	case len(ds) > 0:
		return ds, nil
	case s.Hang:
		<-ctx.Done()
		return nil, ctx.Err()
	case s.Err != nil:
		return nil, s.Err
	}
	return nil, io.EOF
}

// Hints implements pipeline.Hinter.
func (s *Source) Hints() pipeline.Hints { return s.Hint }

// Close implements pipeline.Source.
func (s *Source) Close(context.Context) error {
	s.Rec.mu.Lock()
	defer s.Rec.mu.Unlock()
	s.Rec.closed++
	return nil
}

// A ReadySource is a source of N tasks without leases. All tasks are available from the start. It
// records nothing, so that benchmarks can use it.
type ReadySource struct {
	N int // number of remaining tasks
}

// Receive implements pipeline.Source.
func (s *ReadySource) Receive(_ context.Context, limit int) ([]*pipeline.Delivery, error) {
	n := min(limit, s.N)
	if n == 0 {
		return nil, io.EOF
	}
	ds := make([]*pipeline.Delivery, n)
	for i := range ds {
		ds[i] = pipeline.NewDelivery(pipeline.Task{ID: "task", Data: []byte("{}")}, nil, 1)
	}
	s.N -= n
	return ds, nil
}

// Close implements pipeline.Source.
func (s *ReadySource) Close(context.Context) error { return nil }

// NewDelivery returns a delivery with attempt 1 of a task that has the ID of the lease.
func NewDelivery(l Lease) *pipeline.Delivery {
	return pipeline.NewDelivery(pipeline.Task{ID: l.ID, Data: []byte(`{}`)}, l, 1)
}

// Deliveries returns n deliveries. Their leases record requests in rec.
func Deliveries(rec *Recorder, n int) []*pipeline.Delivery {
	ds := make([]*pipeline.Delivery, n)
	for i := range ds {
		ds[i] = NewDelivery(Lease{Rec: rec, ID: TaskID(i)})
	}
	return ds
}

// A Sink records events.
type Sink struct {
	Rec *Recorder
	// OnWrite is called by Write before the events are recorded. May be nil.
	OnWrite func(events []pipeline.Event) error
}

// Write implements pipeline.Sink.
func (s Sink) Write(ctx context.Context, events []pipeline.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.OnWrite != nil {
		if err := s.OnWrite(events); err != nil {
			return err
		}
	}
	s.Rec.mu.Lock()
	defer s.Rec.mu.Unlock()
	for _, e := range events {
		s.Rec.lines = append(s.Rec.lines, fmt.Sprintf("event %s %s", e.TaskID, e.Type))
		s.Rec.events = append(s.Rec.events, e)
	}
	return nil
}

// Close implements pipeline.Sink.
func (s Sink) Close(context.Context) error { return nil }
