package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned by TryLock if another run holds a lock that excludes the requested lock.
var ErrLocked = errors.New("another run writes to this event log")

// A Lock belongs to a run that writes to an event log.
type Lock struct{ f *os.File }

// TryLock locks the event log at path until Close. Several runs can have a shared lock at the same time.
// A run that continues from the log has an exclusive lock, because another run would run the same tasks.
// If another run has a lock, and one of the two locks is exclusive, TryLock returns ErrLocked. If the log
// does not exist, an exclusive TryLock creates the log, and a shared TryLock returns a nil Lock. TryLock
// also returns a nil Lock if the log is not a regular file, if the file system has no locks, and on other
// systems than Linux.
func TryLock(path string, exclusive bool) (*Lock, error) {
	flags := os.O_RDONLY
	if exclusive {
		flags = os.O_RDWR | os.O_CREATE
	}
	f, err := os.OpenFile(path, flags|unix.O_NONBLOCK, 0o644)
	if err != nil {
		if !exclusive && errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("event log: %w", err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, f.Close()
	}
	switch err := setLock(f, exclusive); {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES):
		_ = f.Close()
		return nil, fmt.Errorf("event log: %s: %w: wait until that run has ended, or use another --event-log-file", path, ErrLocked)
	case err != nil:
		return nil, f.Close()
	}
	return &Lock{f}, nil
}

// Close releases the lock. It does nothing if the Lock is nil.
func (l *Lock) Close() error {
	if l == nil {
		return nil
	}
	return l.f.Close()
}
