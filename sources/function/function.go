package function

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/pipeline"
)

// A Source takes tasks from a Go iterator, which runs in a goroutine that the
// Source owns from the first Receive until Close.
type Source struct {
	tasks iter.Seq2[pipeline.Task, error]

	started   bool
	requested int // tasks that have been asked for and not been received
	n         int64
	err       error // final
	batch     pipeline.DeliveryArena

	demand   chan int
	items    chan item
	quit     chan struct{}
	ended    chan struct{}
	closeErr error // of an iterator that panicked once it was told to end; read after ended
	close    sync.Once
}

type item struct {
	task pipeline.Task
	err  error
}

// mostAsked is how many tasks are asked for at once.
const maxRequest = 64

// New returns a source of the tasks that tasks yields. It is asked for as many only
// as slots can run, from one goroutine at a time, so a sequence
// without an end costs no memory. An error that it yields ends the run, after
// the tasks before it have been run; so does a task without an ID or whose Data
// is empty.
//
// An iterator that blocks delays nobody but itself; if it still blocks when the
// run ends, Close gives up on it.
func New(tasks iter.Seq2[pipeline.Task, error]) *Source {
	return &Source{
		tasks:  tasks,
		demand: make(chan int), items: make(chan item, maxRequest),
		quit: make(chan struct{}), ended: make(chan struct{}),
	}
}

// Of returns a source of the tasks given.
func Of(tasks ...pipeline.Task) *Source {
	return New(func(yield func(pipeline.Task, error) bool) {
		for _, t := range tasks {
			if !yield(t, nil) {
				return
			}
		}
	})
}

// Receive returns the next tasks, as soon as there is one; see pipeline.Source.
func (s *Source) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	if s.err != nil {
		return nil, s.err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !s.started {
		s.started = true
		go s.run()
	}
	if s.requested == 0 {
		n := min(limit, maxRequest)
		select {
		case s.demand <- n:
			s.requested = n
		case <-s.ended: // without a task, so it has ended or panicked
			s.requested = 1
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case it, ok := <-s.items:
		return s.collect(it, ok, limit)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// take makes deliveries of an item and of those that are there already. What is wrong
// with one comes after the tasks before it.
func (s *Source) collect(it item, ok bool, limit int) ([]*pipeline.Delivery, error) {
	ds := make([]*pipeline.Delivery, 0, min(limit, s.requested))
	for {
		s.requested--
		s.n++
		if s.err = check(s.n, it, ok); s.err != nil {
			if len(ds) > 0 {
				return ds, nil
			}
			return nil, s.err
		}
		ds = append(ds, s.batch.New(it.task, nil, 1))
		if s.requested == 0 || len(ds) == limit {
			return ds, nil
		}
		select {
		case it, ok = <-s.items:
		default:
			return ds, nil
		}
	}
}

// check says whether the nth item ends the source.
func check(n int64, it item, ok bool) error {
	switch {
	case !ok:
		return io.EOF
	case it.err != nil:
		return fmt.Errorf("task %d of the function: %w", n, it.err)
	case it.task.ID == "":
		return fmt.Errorf("task %d of the function: %w", n, errNoID)
	case len(it.task.Data) == 0:
		return fmt.Errorf("task %d of the function, %q: %w", n, it.task.ID, errNoData)
	}
	return nil
}

// run runs the iterator, which makes as many tasks as are asked for.
func (s *Source) run() {
	defer close(s.ended)
	defer close(s.items)
	wanted := s.awaitDemand()
	if wanted == 0 {
		return
	}
	// A function that ends its goroutine has not come to its end.
	panicErr := errGoexit
	defer func() {
		if panicErr != nil && !s.send(item{err: panicErr}) {
			s.closeErr = panicErr
		}
	}()
	p := panics.Try(func() {
		for task, err := range s.tasks {
			if !s.send(item{task, err}) {
				return
			}
			if wanted--; wanted > 0 {
				continue
			}
			if wanted = s.awaitDemand(); wanted == 0 {
				return
			}
		}
	})
	panicErr = nil
	if p != nil {
		panicErr = &pipeline.PanicError{Value: p.Value, Stack: p.Stack}
	}
}

// awaitDemand returns how many tasks are wanted; 0: no more.
func (s *Source) awaitDemand() int {
	select {
	case n := <-s.demand:
		return n
	case <-s.quit:
		return 0
	}
}

func (s *Source) send(it item) bool {
	select {
	case <-s.quit: // also where there is room: nobody would receive it
		return false
	default:
	}
	select {
	case s.items <- it:
		return true
	case <-s.quit:
		return false
	}
}

var (
	errNoID   = errors.New("the task has no ID")
	errNoData = errors.New("the task has no Data; it is raw JSON, such as null or {}")
	errGoexit = errors.New("it ended its goroutine (runtime.Goexit), and so before its last task")
	errClosed = errors.New("the function was ended by Close")
)

// Close ends the iterator: where it waits in yield, that returns false, and its
// deferred functions run. A panic in them is Close's error. Where it has not
// returned when ctx ends, Close returns an error and leaves it behind. A second
// Close does nothing.
func (s *Source) Close(ctx context.Context) error {
	first := false
	s.close.Do(func() { first = true; close(s.quit) })
	if !first {
		return nil
	}
	if s.err == nil {
		s.err = errClosed // a Receive after Close is a fault; it shall not hang
	}
	if !s.started {
		return nil
	}
	select {
	case <-s.ended:
	case <-ctx.Done():
		return fmt.Errorf("the function that makes the tasks has not returned: %w", ctx.Err())
	}
	if s.closeErr != nil {
		return fmt.Errorf("the function that makes the tasks: %w", s.closeErr)
	}
	return nil
}
