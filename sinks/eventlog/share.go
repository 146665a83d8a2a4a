package eventlog

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// lockWait is the maximum time that a write waits for the lock. After that, the write proceeds
// without the lock, because a process that was suspended during a write must not block all other
// runs.
const lockWait = 5 * time.Second

// An appender is a regular file to which other processes may also append. It serializes writes with
// a lock, and detects whether the file ends in the middle of a line. Such an incomplete line
// remains if a process is killed during a large write, or if the disk is full.
//
// The lock is held only during a write. If the process that holds it dies, the kernel releases it.
type appender struct {
	file *os.File
	fd   int
	// last reads the file's last byte. It is nil if this process may not read the file.
	last *os.File
	// size is the size of the file after the last write of this Log, which ended with a line break.
	// It is negative before the first write.
	size int64
	wait time.Duration
	log  zerolog.Logger
	name string // what the file is, for warnings
	// setLock is the function setLock; tests replace it.
	setLock func(fd, how int) error

	stat     syscall.Stat_t
	locked   bool
	timedOut bool // the last wait for the lock timed out, so the next wait is shorter
	warned   bool
}

func newAppender(f *os.File, path string, opts Options) *appender {
	s := &appender{file: f, fd: int(f.Fd()), size: -1, wait: lockWait, log: opts.Log, name: opts.Name, setLock: setLock}
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

// begin waits for the lock, and reports whether the file ends in the middle of a line, and whether
// it is empty. If the file was removed, begin returns errRemoved. A file that was only renamed is
// accepted. Unless begin returns an error, the caller must call end.
func (s *appender) begin(ctx context.Context) (torn, empty bool, err error) {
	if err := s.lock(ctx); err != nil {
		return false, false, err
	}
	if torn, err = s.endsInLine(); err != nil {
		s.unlock()
	}
	return torn, s.stat.Size == 0, err
}

// end releases the lock. written is the number of bytes that were appended.
func (s *appender) end(written int) {
	s.size = s.stat.Size + int64(written) // too low if another process wrote meanwhile without a lock
	s.unlock()
}

func (s *appender) endsInLine() (bool, error) {
	if err := syscall.Fstat(s.fd, &s.stat); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	size := s.stat.Size
	switch {
	case s.stat.Nlink == 0:
		return false, errRemoved
	case size == 0, size == s.size:
		return false, nil
	case s.last == nil:
		return true, nil // at worst this adds an empty line, which readers skip
	}
	var b [1]byte
	if n, _ := s.last.ReadAt(b[:], size-1); n == 0 {
		return true, nil // unreadable, or truncated meanwhile
	}
	return b[0] != '\n', nil
}

// lock waits for the lock. It returns nil without the lock if the file system does not support
// locks, or if the wait times out.
func (s *appender) lock(ctx context.Context) error {
	const firstPause, maxPause = 100 * time.Microsecond, 20 * time.Millisecond
	wait := s.wait
	if s.timedOut {
		wait /= 50
	}
	var began time.Time
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := s.setLock(s.fd, syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			s.locked, s.timedOut = true, false
			return nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			s.warn(s.name+" cannot be locked on this file system: runs that share it may corrupt each other's lines", err)
			return nil
		}
		if began.IsZero() {
			began = time.Now()
		}
		if time.Since(began) >= wait {
			s.timedOut = true
			s.warn("another process has held the lock on the "+s.name+" for too long; continuing without the lock", nil)
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

func (s *appender) unlock() {
	if !s.locked {
		return
	}
	s.locked = false
	for errors.Is(s.setLock(s.fd, syscall.LOCK_UN), syscall.EINTR) {
	}
}

// warn logs a warning, once per file.
func (s *appender) warn(text string, err error) {
	if !s.warned {
		s.warned = true
		s.log.Warn().Str("component", "eventlog").Str("file", s.file.Name()).AnErr("err", err).Msg(text)
	}
}

func (s *appender) close() {
	if s.last != nil {
		_ = s.last.Close()
	}
}
