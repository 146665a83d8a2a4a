package eventlog_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/eventlog"
	"github.com/ctworker/ctworker/sinks/sinktest"
)

func TestContract(t *testing.T) { // not parallel, because it checks that no goroutines remain
	sinktest.Run(t, sinktest.Harness{
		New: func(t testing.TB) (pipeline.Sink, func() [][]byte) {
			path := filepath.Join(t.TempDir(), "events.log")
			return open(t, path), func() [][]byte { return lines(t, path) }
		},
		NewStalled: func(t testing.TB) pipeline.Sink {
			path, _ := fifo(t) // without a reader
			return open(t, path)
		},
		Features: sinktest.Features{Ordered: true},
	})
}

func open(t testing.TB, path string) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Open(t.Context(), path, eventlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLog(t testing.TB, l *eventlog.Log) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func write(t testing.TB, l *eventlog.Log, events ...pipeline.Event) {
	t.Helper()
	if err := l.Write(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

// lines returns the lines of a file. It fails the test unless the file ends with a line break.
func lines(t testing.TB, path string) [][]byte {
	t.Helper()
	text := read(t, path)
	all := bytes.Split([]byte(text), []byte("\n"))
	if len(all[len(all)-1]) > 0 {
		t.Errorf("the last line is cut off: %.100s", all[len(all)-1])
	}
	return all[:len(all)-1]
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fifo creates a named pipe and opens it for reading, so that a Log for the pipe does not wait for
// a reader.
func fifo(t testing.TB) (path string, end *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	end, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = end.Close() })
	return path, end
}

// event returns an event of the given size or a little more.
func event(id string, size int) pipeline.Event {
	return pipeline.Event{
		Time: time.Unix(0, 0), Type: pipeline.FatalException,
		Exception: id, StackTrace: strings.Repeat("x", size),
	}
}

// exception returns the id that was passed to event to create the event in line.
func exception(t testing.TB, line []byte) string {
	t.Helper()
	var e struct{ Exception string }
	if err := json.Unmarshal(line, &e); err != nil {
		t.Fatalf("the line %.100q is not valid JSON: %v", line, err)
	}
	return e.Exception
}

func TestOpenKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, before, after string }{
		{"nothing", "", ""},
		{"whole lines", "{\"a\":1}\n{}\n", "{\"a\":1}\n{}\n"},
		{"a line that was cut off", "{\"a\":1}\n{\"ti", "{\"a\":1}\n{\"ti\n"},
		{"only a line that was cut off", "{", "{\n"},
		{"an empty line", "\n", "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "events.log")
			if err := os.WriteFile(path, []byte(tc.before), 0o600); err != nil {
				t.Fatal(err)
			}
			l := open(t, path)
			if got := read(t, path); got != tc.before {
				t.Errorf("Open made %q of %q", got, tc.before)
			}
			e := event("new", 0)
			write(t, l, e)
			closeLog(t, l)
			if got, want := read(t, path), tc.after+string(e.AppendJSON(nil))+"\n"; got != want {
				t.Errorf("the file is %q, want %q", got, want)
			}
		})
	}
}

// The next Write ends a line that another process has left incomplete. Open does not, because the
// other process may still be writing the line.
func TestLog_WritesOnALineOfItsOwn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.log")
	first, second := open(t, path), open(t, path)
	e := event("e", 0)
	line := string(e.AppendJSON(nil)) + "\n"
	write(t, first, e)
	want := line
	for _, torn := range []string{`{"half`, `{"killed`, `{"disk full`} {
		appendTo(t, path, torn)
		if got := read(t, path); got != want+torn {
			t.Fatalf("the file is %q", got)
		}
		write(t, second, e)
		write(t, first, e)
		want += torn + "\n" + line + line
		if got := read(t, path); got != want {
			t.Fatalf("the file is %q, want %q", got, want)
		}
		first, second = second, first
	}
	closeLog(t, first)
	closeLog(t, second)
}

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// While another process holds the lock, Write waits, but only until its context is done.
func TestLog_WaitsForTheLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.log")
	l := open(t, path)
	other, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if err := eventlog.SetLock(int(other.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := other.WriteString(`{"ha`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := l.Write(ctx, []pipeline.Event{event("a", 0)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	if got := read(t, path); got != `{"ha` {
		t.Errorf("the file is %q", got)
	}
	written := make(chan error, 1)
	go func() { written <- l.Write(t.Context(), []pipeline.Event{event("b", 0)}) }()
	_, err = other.WriteString("lf\"}\n")
	if err := errors.Join(err, eventlog.SetLock(int(other.Fd()), syscall.LOCK_UN)); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	e := event("b", 0)
	if got, want := read(t, path), "{\"half\"}\n"+string(e.AppendJSON(nil))+"\n"; got != want {
		t.Errorf("the file is %q, want %q", got, want)
	}
	closeLog(t, l)
}

// If no process reads a pipe, Open returns when its context is done.
func TestOpen_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("received a signal")
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	l, err := eventlog.Open(ctx, path, eventlog.Options{})
	if l != nil || !errors.Is(err, cause) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, error %v", l, err)
	}
	end, err := os.OpenFile(path, os.O_RDONLY, 0) // unblocks the system call of the canceled Open
	if err != nil {
		t.Fatal(err)
	}
	if n, err := end.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d, %v, want EOF: a file that opens too late is closed", n, err)
	}
	_ = end.Close()
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path string
		is         error
		want       string
	}{
		{"a directory", dir, syscall.EISDIR, "is a directory; give the name of a file in it"},
		{
			"no directory", filepath.Join(dir, "runs", "events.log"), os.ErrNotExist,
			"create the directory " + filepath.Join(dir, "runs") + ", or use another --event-log-file",
		},
		{"in a file", filepath.Join(file, "events.log"), syscall.ENOTDIR, "not a directory; use another --event-log-file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l, err := eventlog.Open(t.Context(), tc.path, eventlog.Options{})
			if err == nil {
				closeLog(t, l)
				t.Fatal("no error")
			}
			for _, want := range []string{"event log: open " + tc.path + ": ", tc.want} {
				if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), want) {
					t.Errorf("error %q, want one with %q", err, want)
				}
			}
		})
	}
}

func TestDevNull(t *testing.T) {
	t.Parallel()
	l := open(t, os.DevNull)
	write(t, l, event("a", 10), event("b", 3<<20))
	closeLog(t, l)
}

func TestNamedPipe(t *testing.T) {
	t.Parallel()
	path, end := fifo(t)
	l := open(t, path)
	const n = 10
	read := make(chan error, 1)
	go func() {
		r := bufio.NewReader(end)
		for i := range n {
			line, err := r.ReadBytes('\n')
			if err != nil {
				read <- err
				return
			}
			if got := exception(t, line); got != fmt.Sprint(i) {
				read <- fmt.Errorf("line %d is of %s", i, got)
				return
			}
		}
		read <- nil
	}()
	for i := range n {
		write(t, l, event(fmt.Sprint(i), i*50_000)) // more than a pipe holds
	}
	if err := <-read; err != nil {
		t.Error(err)
	}
	closeLog(t, l)
}
