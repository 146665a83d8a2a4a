package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned by Lock if another run holds the lock.
var ErrLocked = errors.New("another run writes to this event log")

// A Lock belongs to a run that writes to an event log.
type Lock struct{ f *os.File }

// TryLock locks the event log at path until Close. Several runs can have a shared lock at the same time.
// A run that continues from the log has an exclusive lock, because another run would do the same tasks.
// If another run has the lock, TryLock returns ErrLocked. If the log does not exist and the lock is
// exclusive, TryLock creates it. It returns nil if the log cannot be locked because it is not a regular
// file, or because the file system has no locks.
//
// The lock is on a byte far beyond the end of the log, so it does not collide with the lock on the whole
// file that each write takes.
func TryLock(path string, exclusive bool) (*Lock, error) {
	flags, kind := os.O_RDONLY, int16(unix.F_RDLCK)
	if exclusive {
		flags, kind = os.O_RDWR|os.O_CREATE, int16(unix.F_WRLCK)
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
	lock := unix.Flock_t{Type: kind, Start: math.MaxInt64 - 1, Len: 1}
	switch err := unix.FcntlFlock(f.Fd(), setLock, &lock); {
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
