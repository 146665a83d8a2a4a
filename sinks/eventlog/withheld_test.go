package eventlog

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// If the lease of a task is lost while Write waits for room in the pipe, Write does not write the
// event of the task.
func TestWrite_WithheldWhileThePipeIsFull(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	l := newLog(w)
	l.mayBlock = true
	full := fill(t, w)

	var withheld atomic.Bool
	written := make(chan error, 1)
	go func() {
		written <- l.Write(t.Context(), []pipeline.Event{
			{Type: pipeline.KeepAlive},
			{Type: pipeline.TaskCompleted, TaskID: "lost", Withheld: withheld.Load},
		})
	}()
	select {
	case err := <-written:
		t.Fatalf("a full pipe has taken events: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	withheld.Store(true)
	if _, err := io.CopyN(io.Discard, r, int64(full)); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for s := bufio.NewScanner(r); s.Scan(); {
		lines = append(lines, s.Text())
	}
	if len(lines) != 1 || !strings.Contains(lines[0], "keep_alive") {
		t.Errorf("written: %q", lines)
	}
}

// fill writes to a pipe until the pipe is full, and returns the number of bytes that were written.
func fill(t *testing.T, w *os.File) (n int) {
	t.Helper()
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(strings.Repeat("x", 4096))
	if err := raw.Control(func(fd uintptr) { // fd is non-blocking, because os.Pipe created it
		for {
			written, err := syscall.Write(int(fd), text)
			if err != nil {
				if !errors.Is(err, syscall.EAGAIN) {
					t.Errorf("fill the pipe: %v", err)
				}
				return
			}
			n += written
		}
	}); err != nil {
		t.Fatal(err)
	}
	return n
}
