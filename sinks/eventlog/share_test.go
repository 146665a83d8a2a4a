package eventlog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/pipeline"
)

// A process that holds the lock for a long time, for example because it is suspended, does not block
// the writes of other processes.
func TestLog_ContinuesWithoutLockThatIsNotReleased(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.log")
	var warnings strings.Builder
	l, err := Open(t.Context(), path, Options{Log: zerolog.New(&warnings)})
	if err != nil {
		t.Fatal(err)
	}
	l.appender.wait = 10 * time.Millisecond
	other, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if err := setLock(int(other.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := l.Write(t.Context(), []pipeline.Event{event("a")}); err != nil {
			t.Fatal(err)
		}
		if l.appender.locked {
			t.Error("locked is true without the lock")
		}
	}
	if err := setLock(int(other.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(t.Context(), []pipeline.Event{event("b")}); err != nil {
		t.Fatal(err)
	}
	if l.appender.timedOut || l.appender.locked {
		t.Errorf("overdue %v, locked %v after the lock was free", l.appender.timedOut, l.appender.locked)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(path)
	if want := text(event("a"), event("a"), event("a"), event("b")); string(got) != want || err != nil {
		t.Errorf("the file is %q, error %v", got, err)
	}
	if n := strings.Count(warnings.String(), "without the lock"); n != 1 {
		t.Errorf("%d warnings: %s", n, warnings.String())
	}
}

// On a file system without locks the Log warns once, and each write still starts on a new line.
func TestLog_ContinuesWithoutLocks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.log")
	var warnings strings.Builder
	l, err := Open(t.Context(), path, Options{Log: zerolog.New(&warnings)})
	if err != nil {
		t.Fatal(err)
	}
	fd := l.appender.fd
	l.appender.setLock = func(int, int) error { return syscall.ENOLCK }
	for range 2 {
		if err := l.Write(t.Context(), []pipeline.Event{event("a")}); err != nil {
			t.Fatal(err)
		}
		if _, err := syscall.Write(fd, []byte("{torn")); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(path)
	if want := text(event("a")) + "{torn\n" + text(event("a")) + "{torn"; string(got) != want || err != nil {
		t.Errorf("the file is %q, error %v", got, err)
	}
	if n := strings.Count(warnings.String(), "cannot be locked"); n != 1 {
		t.Errorf("%d warnings: %s", n, warnings.String())
	}
}

// If a file cannot be read and has grown since the last write, the next write starts with a line
// break.
func TestLog_StartsNewLineInUnreadableFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.log")
	if err := os.WriteFile(path, []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.appender.close()
	l.appender.last = nil // root can read every file
	for range 2 {
		if err := l.Write(t.Context(), []pipeline.Event{event("a")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.Close(t.Context()), l.Close(t.Context())); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(path)
	if want := "{torn\n" + text(event("a"), event("a")); string(got) != want || err != nil {
		t.Errorf("the file is %q, error %v", got, err)
	}
}
