package eventlog

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// fakeFile accepts room bytes. After that, Write returns err, or blocks if err is nil.
type fakeFile struct {
	room     int
	err      error // error of Write when room is used up
	syncErr  error
	hang     chan struct{}
	text     []byte
	calls    []string
	deadline chan struct{}
}

func newFake(room int) *fakeFile { return &fakeFile{room: room, deadline: make(chan struct{})} }

func (f *fakeFile) Write(p []byte) (int, error) {
	f.calls = append(f.calls, "write")
	n := min(f.room, len(p))
	f.room -= n
	f.text = append(f.text, p[:n]...)
	if n == len(p) {
		return n, nil
	}
	if f.err != nil {
		return n, f.err
	}
	<-f.deadline
	return n, os.ErrDeadlineExceeded
}

func (f *fakeFile) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		f.deadline = make(chan struct{})
	} else {
		close(f.deadline)
	}
	return nil
}

func (f *fakeFile) Sync() error {
	f.calls = append(f.calls, "sync")
	if f.hang != nil {
		<-f.hang
	}
	return f.syncErr
}

func (f *fakeFile) Close() error {
	f.calls = append(f.calls, "close")
	return nil
}

func event(id string) pipeline.Event { return pipeline.Event{Type: pipeline.KeepAlive, Hostname: id} }

func text(events ...pipeline.Event) string {
	var b []byte
	for _, e := range events {
		b = append(e.AppendJSON(b), '\n')
	}
	return string(b)
}

func TestCloseSyncs(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, tc := range []struct {
		name      string
		sync, err error
	}{
		{"a file", nil, nil},
		{"a pipe", &os.PathError{Op: "sync", Path: "pipe", Err: syscall.EINVAL}, nil},
		{"a file that cannot be", broken, broken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(1000)
			f.syncErr = tc.sync
			l := newLog(f)
			if err := l.Write(t.Context(), []pipeline.Event{event("a")}); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(t.Context()); !errors.Is(err, tc.err) {
				t.Errorf("close: %v, want %v", err, tc.err)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Errorf("second close: %v", err)
			}
			if err := l.Write(t.Context(), nil); !errors.Is(err, errClosed) {
				t.Errorf("write after close: %v", err)
			}
			if got := strings.Join(f.calls, " "); got != "write sync close" {
				t.Errorf("calls: %s", got)
			}
		})
	}
}

func TestCloseDoesNotWaitForADiskForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		f.hang = make(chan struct{})
		defer close(f.hang)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := newLog(f).Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
	})
}

func TestAFailedWriteIsFinal(t *testing.T) {
	t.Parallel()
	f := newFake(10)
	f.err = syscall.ENOSPC
	l := newLog(f)
	first := l.Write(t.Context(), []pipeline.Event{event("a")})
	f.room = 1000
	second := l.Write(t.Context(), []pipeline.Event{event("b")})
	none := l.Write(t.Context(), nil)
	if !errors.Is(first, syscall.ENOSPC) || second != first || none != first {
		t.Errorf("errors %v, %v, %v, want the first one each time", first, second, none)
	}
	if !strings.Contains(first.Error(), "last line may be incomplete") {
		t.Errorf("error %q does not mention the incomplete line", first)
	}
	if len(f.text) != 10 {
		t.Errorf("%d bytes were written, want 10", len(f.text))
	}
}

// If the end of a context interrupts a write in the middle of a line, the next Write or Close first
// writes the rest of this line.
func TestAnInterruptedLineIsEnded(t *testing.T) {
	t.Parallel()
	a, b, c := event("a"), event("b"), event("c")
	line := len(text(a))
	for _, tc := range []struct {
		name  string
		room  int
		write bool   // another event before Close
		want  string // the content of the file at the end
	}{
		{"at the start", 0, true, text(c)},
		{"in a line", line + 20, true, text(a, b, c)},
		{"in the first line", 20, true, text(a, c)},
		{"between lines", line, true, text(a, c)},
		{"in a line, by Close", line + 20, false, text(a, b)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake(tc.room)
				l := newLog(f)
				l.mayBlock = true
				for range 2 { // a second call has the same result
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					err := l.Write(ctx, []pipeline.Event{a, b})
					if cancel(); !errors.Is(err, context.DeadlineExceeded) {
						t.Fatalf("write: %v", err)
					}
				}
				f.room = 1 << 20
				if tc.write {
					if err := l.Write(t.Context(), []pipeline.Event{c}); err != nil {
						t.Fatal(err)
					}
				}
				if err := l.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := string(f.text); got != tc.want {
					t.Errorf("got\n%swant\n%s", got, tc.want)
				}
			})
		})
	}
}

// The size of the buffer of a Write does not depend on the number of events.
func TestLargeWritesAreDivided(t *testing.T) {
	t.Parallel()
	f := newFake(1 << 30)
	l := newLog(f)
	big := event(strings.Repeat("x", chunk*3/4))
	if err := l.Write(t.Context(), []pipeline.Event{big, big, big, big, big}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.calls, " "); got != "write write write" {
		t.Errorf("calls: %s", got)
	}
	if string(f.text) != text(big, big, big, big, big) {
		t.Error("the events are not there as they were written")
	}
	if cap(l.buf) > 2*chunk {
		t.Errorf("a buffer of %d bytes is kept", cap(l.buf))
	}
}
