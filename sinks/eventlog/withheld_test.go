package eventlog

import (
	"bufio"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// An event whose lease is lost while the pipe is full is not written when it has room again.
func TestWrite_WithheldWhileThePipeIsFull(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	l := newLog(w)
	l.waits = true
	if err := w.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	full, _ := w.Write([]byte(strings.Repeat("x", 1<<20)))
	_ = w.SetWriteDeadline(time.Time{})

	var late atomic.Bool
	written := make(chan error, 1)
	go func() {
		written <- l.Write(t.Context(), []pipeline.Event{
			{Type: pipeline.KeepAlive},
			{Type: pipeline.TaskCompleted, TaskID: "lost", Withheld: late.Load},
		})
	}()
	select {
	case err := <-written:
		t.Fatalf("a full pipe has taken events: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	late.Store(true)
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
