package eventlog

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// lockWait is how long a write waits for the lock before it goes on without. A process
// that was stopped in the middle of a write must not stop every other run.
const lockWait = 5 * time.Second

// shared is a regular file that other processes append to as well. It makes each write
// the only one, and finds out whether the file ends in the middle of a line: a process
// that is killed in a large write, or meets a full disk, leaves part of one.
//
// A flock(2) lock is held for the time of a write only. The kernel drops it when its
// holder dies.
type shared struct {
	file *os.File
	fd   int
	// last reads the file's last byte. Nil if the file may only be appended to.
	last *os.File
	// size is what the file had after our last write, which ended a line. Negative
	// before the first one.
	size int64
	wait time.Duration
	log  zerolog.Logger
	// flock is flock(2); replaced in tests.
	flock func(fd, how int) error

	stat    syscall.Stat_t
	locked  bool
	overdue bool // the last wait for the lock was in vain: the next one is short
	warned  bool
}

func newShared(f *os.File, path string, log zerolog.Logger) *shared {
	s := &shared{file: f, fd: int(f.Fd()), size: -1, wait: lockWait, log: log, flock: syscall.Flock}
	last, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return s
	}
	a, errA := f.Stat()
	b, errB := last.Stat()
	if errA != nil || errB != nil || !os.SameFile(a, b) { // renamed meanwhile
		_ = last.Close()
		return s
	}
	s.last = last
	return s
}

// begin waits until no other process writes, and reports whether the file ends in the
// middle of a line. It returns ErrRemoved if the file has no name any more: then nothing
// keeps what is written to it. A file that was renamed has one. end has to follow unless
// there is an error.
func (s *shared) begin(ctx context.Context) (torn bool, err error) {
	if err := s.lock(ctx); err != nil {
		return false, err
	}
	if torn, err = s.endsInLine(); err != nil {
		s.unlock()
	}
	return torn, err
}

// end lets other processes write. written is how many bytes this one has appended.
func (s *shared) end(written int) {
	s.size = s.stat.Size + int64(written) // or less than it is, if there was no lock
	s.unlock()
}

func (s *shared) endsInLine() (bool, error) {
	if err := syscall.Fstat(s.fd, &s.stat); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	size := s.stat.Size
	switch {
	case s.stat.Nlink == 0:
		return false, ErrRemoved
	case size == 0, size == s.size:
		return false, nil
	case s.last == nil:
		return true, nil // an empty line at worst, which readers skip
	}
	var b [1]byte
	if n, _ := s.last.ReadAt(b[:], size-1); n == 0 {
		return true, nil // unreadable, or shorter by now
	}
	return b[0] != '\n', nil
}

// lock waits for the lock. It returns nil without it if the file system has no locks,
// or if the holder keeps it for too long.
func (s *shared) lock(ctx context.Context) error {
	const firstPause, maxPause = 100 * time.Microsecond, 20 * time.Millisecond
	wait := s.wait
	if s.overdue {
		wait /= 50
	}
	var began time.Time
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := s.flock(s.fd, syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			s.locked, s.overdue = true, false
			return nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			s.warn("the event log cannot be locked on this file system; runs that share it may damage each other's lines", err)
			return nil
		}
		if began.IsZero() {
			began = time.Now()
		}
		if time.Since(began) >= wait {
			s.overdue = true
			s.warn("another process holds the lock on the event log and does not write; going on without the lock", nil)
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (s *shared) unlock() {
	if !s.locked {
		return
	}
	s.locked = false
	for errors.Is(s.flock(s.fd, syscall.LOCK_UN), syscall.EINTR) {
	}
}

// warn warns once.
func (s *shared) warn(text string, err error) {
	if !s.warned {
		s.warned = true
		s.log.Warn().Str("component", "eventlog").Str("file", s.file.Name()).AnErr("err", err).Msg(text)
	}
}

func (s *shared) close() {
	if s.last != nil {
		_ = s.last.Close()
	}
}
