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

// A Source receives tasks from a Go iterator. The iterator runs in a goroutine that the Source
// owns, from the first Receive until Close.
type Source struct {
	tasks iter.Seq2[pipeline.Task, error]

	started   bool
	requested int // number of tasks that were requested and have not been received
	n         int64
	err       error // final

	demand   chan int
	items    chan item
	quit     chan struct{}
	ended    chan struct{}
	closeErr error // from an iterator that panicked during Close; read after ended is closed
	close    sync.Once
}

type item struct {
	task pipeline.Task
	err  error
}

// maxRequest is the maximum number of tasks per request.
const maxRequest = 64

// New returns a Source of the tasks that the iterator yields. The iterator advances only when the
// run requests tasks, so an infinite sequence is possible. It runs in one goroutine. If it yields
// an error, a task without an ID, or a task with empty Data, the run still executes the tasks that
// were yielded before, and then ends with an error.
//
// A blocked iterator does not delay running tasks. If the iterator is still blocked at the end of
// the run, Close returns an error and abandons the goroutine of the iterator.
func New(tasks iter.Seq2[pipeline.Task, error]) *Source {
	return &Source{
		tasks:  tasks,
		demand: make(chan int), items: make(chan item, maxRequest),
		quit: make(chan struct{}), ended: make(chan struct{}),
	}
}

// Of returns a Source of the given tasks.
func Of(tasks ...pipeline.Task) *Source {
	return New(func(yield func(pipeline.Task, error) bool) {
		for _, t := range tasks {
			if !yield(t, nil) {
				return
			}
		}
	})
}

// Receive returns the next tasks; see pipeline.Source. It waits until there is at least one task.
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
		case <-s.ended: // the iterator has ended; items contains its error, or is closed
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

// collect converts the given item, and all further items that are available without waiting, to
// deliveries. If an item is invalid, collect stores its error in s.err, and first returns the
// deliveries before the item, if there are any.
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
		ds = append(ds, pipeline.NewDelivery(it.task, nil, 1))
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

// check returns an error if the nth item is invalid. If ok is false, there is no nth item, and
// check returns io.EOF.
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

// run runs the iterator. The call of yield blocks until another task is requested.
func (s *Source) run() {
	defer close(s.ended)
	defer close(s.items)
	wanted := s.awaitDemand()
	if wanted == 0 {
		return
	}
	// panicErr has this value if the iterator calls runtime.Goexit. If the iterator returns or
	// panics, the code below replaces the value.
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

// awaitDemand waits for the next request, and returns its number of tasks. It returns 0 after
// Close.
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
	case <-s.quit: // checked first: the next select could send the item although nothing will receive it
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
	errNoData = errors.New("the task has no Data; set it to raw JSON, such as null or {}")
	errGoexit = errors.New("the function called runtime.Goexit before it yielded all tasks")
	errClosed = errors.New("function source is closed")
)

// Close stops the iterator: yield returns false, and the iterator's deferred functions run. If one
// of them panics, Close returns the panic as an error. If the iterator has not returned when ctx is
// done, Close returns an error and abandons the goroutine of the iterator. A second Close does
// nothing.
func (s *Source) Close(ctx context.Context) error {
	first := false
	s.close.Do(func() { first = true; close(s.quit) })
	if !first {
		return nil
	}
	if s.err == nil {
		s.err = errClosed // so that a Receive after Close returns instead of blocking
	}
	if !s.started {
		return nil
	}
	select {
	case <-s.ended:
	case <-ctx.Done():
		return fmt.Errorf("the function that generates the tasks did not return in time: %w", ctx.Err())
	}
	if s.closeErr != nil {
		return fmt.Errorf("the function that generates the tasks: %w", s.closeErr)
	}
	return nil
}
