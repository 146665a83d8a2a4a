package eventlog

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// logged receives each log line.
type logged chan string

func (c logged) Write(p []byte) (int, error) {
	c <- string(p)
	return len(p), nil
}

// If a FIFO has no reader, Open logs this once, and returns when a process reads the FIFO.
func TestOpen_FIFOWithoutAReader(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	lines := make(logged, 10)
	opened := make(chan error, 1)
	go func() {
		l, err := Open(t.Context(), path, Options{Log: zerolog.New(lines), noticeAfter: time.Millisecond})
		if err == nil {
			err = l.Close(t.Context())
		}
		opened <- err
	}()
	line := <-lines
	for _, want := range []string{`"level":"info"`, `"file":"` + path + `"`, `"message":"waiting until another process opens the event log FIFO for reading"`} {
		if !strings.Contains(line, want) {
			t.Errorf("logged %s, want %s", line, want)
		}
	}
	select {
	case err := <-opened:
		t.Fatalf("Open returned without a reader: %v", err)
	default:
	}
	end, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = end.Close() }()
	if err := <-opened; err != nil {
		t.Error(err)
	}
	if len(lines) > 0 {
		t.Errorf("logged again: %s", <-lines)
	}
}

// Open of a file that is not a FIFO logs nothing, however long it takes.
func TestNoticeFIFO_OtherFile(t *testing.T) {
	t.Parallel()
	lines := make(logged, 1)
	opts := Options{Log: zerolog.New(lines)}
	opts.noticeFIFO(filepath.Join(t.TempDir(), "missing"))
	opts.noticeFIFO(os.DevNull)
	if len(lines) > 0 {
		t.Errorf("logged %s", <-lines)
	}
}
