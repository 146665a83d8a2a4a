package eventlog

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// share prepares a file that other runs may be writing to. Every log that writes
// holds a shared lock on its file; only one that could have an exclusive one, as
// nobody else writes, can tell a line that was cut off from one that is being
// written.
func share(f *os.File, path string) error {
	if lock(f, syscall.LOCK_EX|syscall.LOCK_NB) {
		if err := endLine(f, path); err != nil {
			return err
		}
	}
	lock(f, syscall.LOCK_SH) // waits for another's endLine at most
	return nil
}

// lock changes the lock on f and reports whether it could. Not every file system
// knows locks, and a log does without.
func lock(f *os.File, how int) bool {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var locked error
	err = conn.Control(func(fd uintptr) {
		for {
			if locked = syscall.Flock(int(fd), how); !errors.Is(locked, syscall.EINTR) {
				return
			}
		}
	})
	// Without locks, the file is taken to be ours alone.
	return err == nil && !errors.Is(locked, syscall.EWOULDBLOCK)
}

// endLine ends a line that an earlier run could not.
func endLine(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	r, err := os.Open(path)
	if err != nil {
		return nil // a file that we may only append to: leave it
	}
	defer func() { _ = r.Close() }()
	var last [1]byte
	if _, err := r.ReadAt(last[:], info.Size()-1); err != nil || last[0] == '\n' {
		if errors.Is(err, io.EOF) {
			return nil // it became shorter meanwhile
		}
		return err
	}
	_, err = f.Write([]byte{'\n'})
	return err
}
