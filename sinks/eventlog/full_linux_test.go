package eventlog_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/eventlog"
)

func TestAFullDisk(t *testing.T) {
	t.Parallel()
	l := open(t, "/dev/full")
	want := "event log: write /dev/full: no space left on device; the disk is full: free some space " +
		"or use another --event-log-file, then run the tasks without an event again"
	for range 2 {
		err := l.Write(t.Context(), []pipeline.Event{event("x", 0)})
		if !errors.Is(err, syscall.ENOSPC) || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	}
	closeLog(t, l)
}

// Errors contain Options.Flag and Options.Recovery.
func TestErrors_OfAnotherCommand(t *testing.T) {
	t.Parallel()
	opts := eventlog.Options{Flag: "--output", Recovery: "start again"}
	l, err := eventlog.Open(t.Context(), "/dev/full", opts)
	if err != nil {
		t.Fatal(err)
	}
	const want = "the disk is full: free some space or use another --output, then start again"
	if err := l.WriteLines(t.Context(), [][]byte{[]byte("{}")}); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("write: %v, want %q", err, want)
	}
	closeLog(t, l)
	if _, err := eventlog.Open(t.Context(), "/dev/null/x", opts); err == nil || !strings.HasSuffix(err.Error(), "; use another --output") {
		t.Errorf("open: %v", err)
	}
}
