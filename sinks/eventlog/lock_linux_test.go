package eventlog_test

import (
	"path/filepath"
	"testing"

	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/pipeline"
)

// The lock of a write is a lock on bytes, like that of the run. The two must not overlap, because they would
// exclude each other.
func TestLog_WritesWhileTheRunHoldsItsLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.log")
	lock, err := journal.TryLock(path, true)
	if err != nil || lock == nil {
		t.Fatalf("lock %v, error %v", lock, err)
	}
	defer func() { _ = lock.Close() }()
	l := open(t, path)
	if err := l.Write(t.Context(), []pipeline.Event{event("a", 0)}); err != nil {
		t.Error(err)
	}
	if l.Warned() {
		t.Error("the write continued without the lock")
	}
}
