package eventlog_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/ctworker/ctworker/pipeline"
)

func TestAFullDisk(t *testing.T) {
	t.Parallel()
	l := open(t, "/dev/full")
	want := "event log: write /dev/full: no space left on device; the disk is full: free some space, " +
		"or give another --event-log-file, and run what has no event again"
	for range 2 {
		err := l.Write(t.Context(), []pipeline.Event{event("x", 0)})
		if !errors.Is(err, syscall.ENOSPC) || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	}
	closeLog(t, l)
}
