//go:build unix

package taskfile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ctworker/ctworker/sources/taskfile"
)

func TestNamedPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "t.json")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := taskfile.Open(path, taskfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeSource(t, src)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := src.Receive(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no writer: error %v", err)
	}
	if err := os.WriteFile(path, []byte(formats()["tasks.json"]), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := drain(t, src, 2)
	check(t, "named pipe", got, err)
}
