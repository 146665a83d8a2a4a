package eventlog_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/eventlog"
)

// ids returns options for a list with a header line and a line for each event with an Exception.
func ids() eventlog.Options {
	return eventlog.Options{Name: "list", Header: "ID", Format: func(b []byte, e *pipeline.Event) ([]byte, bool) {
		return append(b, e.Exception...), e.Exception != ""
	}}
}

func openList(t *testing.T, path string) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Open(t.Context(), path, ids())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The header is written only once, even if several runs append to the file.
func TestLog_Header(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "list")
	a, b := openList(t, path), openList(t, path)
	write(t, a, event("", 0))
	if got := read(t, path); got != "" {
		t.Errorf("file is %q after an event without a line", got)
	}
	write(t, b, event("1", 0), event("", 0), event("2", 0))
	write(t, a, event("3", 0))
	closeLog(t, a)
	closeLog(t, b)
	appendTo(t, path, "incompl")
	c := openList(t, path)
	write(t, c, event("4", 0))
	closeLog(t, c)
	if got, want := read(t, path), "ID\n1\n2\n3\nincompl\n4\n"; got != want {
		t.Errorf("file is %q, want %q", got, want)
	}
}

func TestLog_HeaderOfPipe(t *testing.T) {
	t.Parallel()
	path, end := fifo(t)
	l := openList(t, path)
	write(t, l, event("1", 0))
	write(t, l, event("2", 0))
	closeLog(t, l)
	got := make([]byte, 100)
	n, err := end.Read(got)
	if string(got[:n]) != "ID\n1\n2\n" || err != nil {
		t.Errorf("pipe has %q, error %v", got[:n], err)
	}
}

// Errors contain Options.Name.
func TestLog_Name(t *testing.T) {
	t.Parallel()
	_, err := eventlog.Open(t.Context(), t.TempDir(), ids())
	if err == nil || !strings.HasPrefix(err.Error(), "list: open ") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := eventlog.Open(ctx, "x", ids()); err == nil || !strings.HasPrefix(err.Error(), "list: opening x") {
		t.Errorf("error %v", err)
	}
}
