//go:build unix

package taskfile

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// OnWait is called once for a FIFO that no process writes to, and not for other files.
func TestOnWait(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "t.json")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{}, 10)
	src, err := Open(path, Options{OnWait: func() { waits <- struct{}{} }, waitNotice: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan error, 1)
	go func() {
		_, err := src.Receive(t.Context(), 1)
		received <- err
	}()
	<-waits
	select {
	case err := <-received:
		t.Fatalf("Receive returned without a writer: %v", err)
	default:
	}
	if err := os.WriteFile(path, []byte(`[{"task_id":"a","data":1}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-received; err != nil {
		t.Error(err)
	}
	if err := src.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	if len(waits) > 0 {
		t.Error("OnWait was called again")
	}

	f := &asyncReader{scan: &scan{onWait: func() { t.Error("OnWait was called for a device") }, waitNotice: time.Nanosecond}}
	f.startNotice(os.DevNull)()
}
