package function_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/function"
	"github.com/ctworker/ctworker/sources/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type sequence = iter.Seq2[pipeline.Task, error]

func TestContract(t *testing.T) { // not parallel: it looks for goroutines
	var pulled atomic.Int64
	list := func(tasks []pipeline.Task, then func(yield func(pipeline.Task, error) bool)) pipeline.Source {
		pulled.Store(0)
		return function.New(func(yield func(pipeline.Task, error) bool) {
			for _, task := range tasks {
				pulled.Add(1)
				if !yield(task, nil) {
					return
				}
			}
			then(yield)
		})
	}
	sourcetest.Run(t, sourcetest.Harness{
		New: func(_ testing.TB, tasks []pipeline.Task) pipeline.Source {
			return list(tasks, func(func(pipeline.Task, error) bool) {})
		},
		NewBlocking: func(t testing.TB, tasks []pipeline.Task) pipeline.Source {
			more := make(chan struct{})
			src := list(tasks, func(func(pipeline.Task, error) bool) { <-more })
			return &unblocking{src, more}
		},
		NewBroken: func(_ testing.TB, tasks []pipeline.Task) pipeline.Source {
			return list(tasks, func(yield func(pipeline.Task, error) bool) {
				yield(pipeline.Task{}, errors.New("no connection"))
			})
		},
		Delivered: func() int { return int(pulled.Load()) },
		Features:  sourcetest.Features{Finite: true, Ordered: true},
	})
}

// A source whose iterator generates tasks fulfills the contract of pipeline.Source.
func TestContract_Generator(t *testing.T) {
	sourcetest.Run(t, sourcetest.Harness{
		NewOwn: func(_ testing.TB, n int) (pipeline.Source, []pipeline.Task) {
			square := func(i int) pipeline.Task {
				return pipeline.Task{ID: fmt.Sprint("square-", i), Data: fmt.Append(nil, i*i)}
			}
			tasks := make([]pipeline.Task, n)
			for i := range tasks {
				tasks[i] = square(i)
			}
			return function.New(func(yield func(pipeline.Task, error) bool) {
				for i := range n {
					if !yield(square(i), nil) {
						return
					}
				}
			}), tasks
		},
		Features: sourcetest.Features{Finite: true, Ordered: true},
	})
}

// unblocking is a source whose iterator waits for more. Close closes more before it closes the
// source, as a user's program may cancel a context for which its iterator waits.
type unblocking struct {
	pipeline.Source
	more chan struct{}
}

func (s *unblocking) Close(ctx context.Context) error {
	close(s.more)
	return s.Source.Close(ctx)
}

func task(i int) pipeline.Task {
	return pipeline.Task{ID: fmt.Sprint(i), Data: []byte(`{}`)}
}

// naturals returns an infinite sequence with a task for each number from 0. pulled counts the
// tasks.
func naturals(pulled *atomic.Int64) sequence {
	return func(yield func(pipeline.Task, error) bool) {
		for i := 0; ; i++ {
			pulled.Add(1)
			if !yield(task(i), nil) {
				return
			}
		}
	}
}

func closeSource(t *testing.T, s *function.Source) {
	t.Helper()
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
}

// The source advances the iterator only when Receive has requested tasks: the iterator never yields
// more tasks than were requested.
func TestATaskIsMadeWhenItIsAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var pulled atomic.Int64
		s := function.New(naturals(&pulled))
		defer closeSource(t, s)
		synctest.Wait()
		if n := pulled.Load(); n != 0 {
			t.Fatalf("%d tasks were made before any was asked for", n)
		}
		received := 0
		for received < 1000 {
			ds, err := s.Receive(t.Context(), 10)
			if err != nil || len(ds) == 0 || len(ds) > 10 {
				t.Fatalf("%d tasks, error %v", len(ds), err)
			}
			for _, d := range ds {
				if d.Task.ID != fmt.Sprint(received) {
					t.Fatalf("task %s after %d tasks", d.Task.ID, received)
				}
				received++
			}
			synctest.Wait() // the iterator has finished what it can do now
			if n := pulled.Load(); n < int64(received) || n > int64(received+9) {
				t.Fatalf("%d tasks were made, and %d received, at most 10 at a time", n, received)
			}
		}
	})
}

// If all tasks of a run with four slots hang, the run takes four tasks from an infinite sequence.
func TestARunAsksForWhatCanStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var pulled atomic.Int64
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 4})
		pipeline.To(pipeline.From(r, "function", function.New(naturals(&pulled))), "hang",
			func(ctx context.Context, in <-chan *pipeline.Delivery) error {
				var held []*pipeline.Delivery
				for d := range in {
					held = append(held, d)
				}
				for _, d := range held {
					d.ReleaseAsync()
				}
				return nil
			})
		synctest.Wait()
		if n := pulled.Load(); n != 4 {
			t.Errorf("%d tasks were made, want 4", n)
		}
		r.Stop(errors.New("enough"))
		if err := r.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestErrors(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, tc := range []struct {
		name string
		last func(yield func(pipeline.Task, error) bool) // after two valid tasks
		is   error
		want string
	}{
		{
			"the function's own", func(yield func(pipeline.Task, error) bool) { yield(pipeline.Task{}, boom) },
			boom, "task 3 of the function: boom",
		},
		{
			"no ID", func(yield func(pipeline.Task, error) bool) { yield(pipeline.Task{Data: []byte("1")}, nil) },
			nil, "task 3 of the function: the task has no ID",
		},
		{
			"no Data", func(yield func(pipeline.Task, error) bool) { yield(pipeline.Task{ID: "x"}, nil) },
			nil, `task 3 of the function, "x": the task has no Data; set it to raw JSON, such as null or {}`,
		},
		{
			"a panic", func(func(pipeline.Task, error) bool) { panic(boom) },
			boom, "task 3 of the function: panic: boom",
		},
		{
			"the end of its goroutine", func(func(pipeline.Task, error) bool) { runtime.Goexit() },
			nil, "task 3 of the function: the function called runtime.Goexit before it yielded all tasks",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := function.New(func(yield func(pipeline.Task, error) bool) {
				if yield(task(0), nil) && yield(task(1), nil) {
					tc.last(yield)
				}
			})
			defer closeSource(t, s)
			for range 2 {
				if _, err := s.Receive(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // it stays
				ds, err := s.Receive(t.Context(), 1)
				if len(ds) > 0 || err == nil || err.Error() != tc.want {
					t.Errorf("got %v, %q, want %q", ds, err, tc.want)
				}
				if tc.is != nil && !errors.Is(err, tc.is) {
					t.Errorf("%v is not %v", err, tc.is)
				}
			}
		})
	}
}

func TestAPanicNamesItsPlace(t *testing.T) {
	t.Parallel()
	s := function.New(func(func(pipeline.Task, error) bool) { panic("boom") })
	defer closeSource(t, s)
	_, err := s.Receive(t.Context(), 1)
	var p *pipeline.PanicError
	if !errors.As(err, &p) || !strings.Contains(string(p.Stack), "function_test.go") {
		t.Errorf("error %v with stack\n%s", err, p.Stack)
	}
}

// If the context of a Receive ends before the iterator yields a task, the next Receive returns the
// task.
func TestATaskThatTookTooLongIsReceivedLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := function.New(func(yield func(pipeline.Task, error) bool) {
			for i := range 3 {
				<-time.After(time.Minute)
				if !yield(task(i), nil) {
					return
				}
			}
		})
		defer closeSource(t, s)
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			began := time.Now()
			if ds, err := s.Receive(ctx, 1); !errors.Is(err, context.DeadlineExceeded) || len(ds) > 0 {
				t.Fatalf("got %v, %v", ds, err)
			}
			cancel()
			if took := time.Since(began); took != time.Second {
				t.Errorf("Receive returned after %v; its context ended after 1s", took)
			}
			ds, err := s.Receive(t.Context(), 1)
			if err != nil || ds[0].Task.ID != fmt.Sprint(i) {
				t.Fatalf("got %v, %v, want task %d", ds, err, i)
			}
		}
		if _, err := s.Receive(t.Context(), 1); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want io.EOF", err)
		}
	})
}

func TestCloseRunsDeferredFunctions(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, tc := range []struct {
		name     string
		deferred func()
		want     error
	}{
		{"that return", func() {}, nil},
		{"that panic", func() { panic(boom) }, boom},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ran := false
			s := function.New(func(yield func(pipeline.Task, error) bool) {
				defer func() { ran = true; tc.deferred() }()
				for yield(task(0), nil) {
				}
			})
			if _, err := s.Receive(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(t.Context()); !errors.Is(err, tc.want) {
				t.Errorf("close: %v, want %v", err, tc.want)
			}
			if !ran {
				t.Error("they did not run")
			}
			if ds, err := s.Receive(t.Context(), 1); len(ds) > 0 || err == nil || errors.Is(err, io.EOF) {
				t.Errorf("a Receive after Close returned %v, %v", ds, err)
			}
		})
	}
}

func TestCloseGivesUpOnAStuckFunction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		defer close(stuck)
		s := function.New(func(func(pipeline.Task, error) bool) { <-stuck })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Receive(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		began := time.Now()
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := s.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "did not return in time") {
			t.Errorf("close: %v", err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("Close gave up after %v, its context ended after 10s", took)
		}
	})
}

func TestOfWithoutTasks(t *testing.T) {
	t.Parallel()
	s := function.Of()
	defer closeSource(t, s)
	if ds, err := s.Receive(t.Context(), 1); !errors.Is(err, io.EOF) || len(ds) > 0 {
		t.Errorf("got %v, %v, want io.EOF", ds, err)
	}
}
