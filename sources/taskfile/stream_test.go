package taskfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/sources/taskfile"
)

// Receive returns the tasks that have arrived in a pipe. If none has arrived, Receive returns when
// its context ends. Close does not block.
func TestBlockedPipe(t *testing.T) {
	t.Parallel()
	inMemory := func(*testing.T) (io.Reader, io.WriteCloser) { return io.Pipe() }
	fromSystem := func(t *testing.T) (io.Reader, io.WriteCloser) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r, w
	}
	for name, pipe := range map[string]func(*testing.T) (io.Reader, io.WriteCloser){"io": inMemory, "os": fromSystem} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w := pipe(t)
			defer func() { _ = w.Close() }()
			src, err := taskfile.Open("-", taskfile.Options{Stdin: r})
			if err != nil {
				t.Fatal(err)
			}
			write := func(text string) <-chan error {
				written := make(chan error, 1)
				go func() { _, err := io.WriteString(w, text); written <- err }()
				return written
			}
			receive := func(limit int) ([]task, error) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				var tasks []task
				deliveries, err := src.Receive(ctx, limit)
				for _, d := range deliveries {
					tasks = append(tasks, task{d.Task.ID, string(d.Task.Data)})
				}
				return tasks, err
			}
			if _, err := receive(5); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("nothing written: error %v", err)
			}
			// These are two tasks and the start of a third. The Receive below returns only one task,
			// because its limit is 1.
			written := write(`{"task_id":"a","data":1}` + "\n" + `{"task_id":"b","data":2}{"task_id":`)
			got, err := src.Receive(t.Context(), 1)
			if err != nil || len(got) != 1 || got[0].Task.ID != "a" {
				t.Fatalf("got %v, error %v", got, err)
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			if got, err := receive(5); err != nil || fmt.Sprint(got) != "[{b 2}]" {
				t.Errorf("got %v, error %v", got, err)
			}
			if _, err := receive(5); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("third task begun: error %v", err)
			}
			written = write(`"c","data":3}`)
			if got, err := src.Receive(t.Context(), 5); err != nil || len(got) != 1 || string(got[0].Task.Data) != "3" {
				t.Errorf("got %v, error %v", got, err)
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			if _, err := receive(5); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("third task over: error %v", err)
			}
			closeSource(t, src)
			if _, err := src.Receive(t.Context(), 5); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("after Close: error %v", err)
			}
			if file, ok := r.(*os.File); ok { // the file belongs to the test, and must still work
				if _, err := io.WriteString(w, "x"); err != nil {
					t.Fatal(err)
				}
				if _, err := file.Read(make([]byte, 1)); err != nil {
					t.Errorf("the pipe after Close: %v", err)
				}
			}
		})
	}
}

func TestPipeToItsEnd(t *testing.T) {
	t.Parallel()
	for name, text := range formats() {
		if name == "flow.yml" {
			continue
		}
		r, w := io.Pipe()
		go func() {
			_, err := io.WriteString(w, text)
			_ = w.CloseWithError(err)
		}()
		got, err := readAll(t, "-", taskfile.Options{Stdin: r})
		check(t, name, got, err)
	}
}

func TestPipeErrors(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, ok1+"\n"+ok1+"\n")
		_ = w.CloseWithError(boom)
	}()
	got, err := readAll(t, "-", taskfile.Options{Stdin: r})
	if len(got) != 2 || !errors.Is(err, boom) {
		t.Errorf("got %v, error %v", got, err)
	}
	wantFault(t, err, "standard input", 3, 3, "cannot be read: boom")

	// Only io.EOF itself is the end of the tasks.
	for _, start := range []string{"", ok1} {
		text := io.MultiReader(strings.NewReader(start), iotest.ErrReader(fmt.Errorf("connection: %w", io.EOF)))
		_, err = readAll(t, "-", taskfile.Options{Stdin: text})
		if err == nil || !strings.Contains(err.Error(), "cannot be read: connection: EOF") {
			t.Errorf("after %q: error %v", start, err)
		}
	}
}

// stuck is a reader whose blocked Read nothing can end.
type stuck struct{ entered, release chan struct{} }

func (s stuck) Read([]byte) (int, error) {
	close(s.entered)
	<-s.release
	return 0, io.EOF
}

func TestCloseLeavesAReadThatCannotBeEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := stuck{make(chan struct{}), make(chan struct{})}
		src, err := taskfile.Open("-", taskfile.Options{Stdin: s})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := src.Receive(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		<-s.entered
		closeSource(t, src)
		close(s.release) // the goroutine must end, or synctest fails the test
	})
}

func TestCloseWithoutReceive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		src, err := taskfile.Open("-", taskfile.Options{Stdin: r})
		if err != nil {
			t.Fatal(err)
		}
		closeSource(t, src)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// endless is a reader that generates count entries while it is read.
type endless struct {
	entry func(i int) string
	count int
	i     int
	rest  strings.Reader
}

func (e *endless) Read(p []byte) (int, error) {
	if e.rest.Len() == 0 {
		if e.i == e.count {
			return 0, io.EOF
		}
		var b bytes.Buffer
		for b.Len() < 100_000 && e.i < e.count {
			b.WriteString(e.entry(e.i))
			e.i++
		}
		e.rest.Reset(b.String())
	}
	return e.rest.Read(p)
}

func TestMemoryIsBounded(t *testing.T) { // not parallel: it measures the heap
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, test := range []struct {
		name  string
		count int
		entry func(i int) string
	}{
		{"json lines", 200_000, func(i int) string {
			return fmt.Sprintf("{\"task_id\":\"task-%d\",\"data\":{\"num1\":%d},\"key-%d\":1}\n", i, i, i)
		}},
		{"yaml", 20_000, func(i int) string { return fmt.Sprintf("- task_id: task-%d\n  data:\n    num1: %d\n", i, i) }},
		{"yaml flow", 20_000, func(i int) string {
			if i == 0 {
				return "---\n[{task_id: task-0, data: {num1: 0}}"
			} else if i == 19_999 {
				return ", {task_id: task-19999, data: {num1: 19999}}]\n"
			}
			return fmt.Sprintf(", {task_id: task-%d, data: {num1: %d}}", i, i)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := heap()
			src, err := taskfile.Open("-", taskfile.Options{Stdin: &endless{entry: test.entry, count: test.count}})
			if err != nil {
				t.Fatal(err)
			}
			defer closeSource(t, src)
			n := 0
			for {
				deliveries, err := src.Receive(t.Context(), 1000)
				for _, d := range deliveries {
					if want := fmt.Sprintf("task-%d", n); d.Task.ID != want {
						t.Fatalf("task %d is %s", n, d.Task.ID)
					}
					if n++; n%(test.count/5) == 0 {
						if grown := int64(heap()) - int64(before); grown > 4<<20 {
							t.Errorf("the heap has grown by %d KiB at task %d", grown>>10, n)
						}
					}
				}
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if n != test.count {
				t.Errorf("there are %d tasks", n)
			}
		})
	}
}

// A panic while a file is read, for example in a decompressor, becomes an error of the file. The
// tasks before the error are delivered first.
func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	r := io.MultiReader(strings.NewReader("{\"task_id\": \"a\", \"data\": 1}\n{\"task_id\": \"b\", \"data\": 1}\n"), faulty{})
	got, err := readAll(t, "-", taskfile.Options{Stdin: r})
	if len(got) == 0 || err == nil || !strings.Contains(err.Error(), "a fault") {
		t.Errorf("%d tasks, error %v", len(got), err)
	}
}

type faulty struct{}

func (faulty) Read([]byte) (int, error) { panic("a fault") }
