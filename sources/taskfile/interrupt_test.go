//go:build unix

package taskfile

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A named pipe that no process writes to is not opened after close, because close would wait for the open.
func TestInterruptible_DoesNotOpenAfterInterrupt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	var g interruptible
	if !g.interrupt() {
		t.Error("interrupt reports that a read may be blocked, although none has begun")
	}
	if file, err := g.open(path); !errors.Is(err, errClosed) {
		t.Errorf("open returned %v, %v", file, err)
	}
}
