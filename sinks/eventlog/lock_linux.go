package eventlog

import (
	"errors"
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// setLock takes or releases the lock for a write: syscall.LOCK_EX or syscall.LOCK_UN.
//
// It is a lock on a range of bytes (fcntl(2), F_OFD_SETLK), not flock(2). On NFS, Linux implements
// flock as a lock on all bytes of the file. This would conflict with the lock of a run that continues from the
// log (package journal), which locks the byte after this range.
func setLock(fd, how int) error {
	kind := int16(unix.F_WRLCK)
	if how&syscall.LOCK_UN != 0 {
		kind = unix.F_UNLCK
	}
	err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Len: math.MaxInt64 - 1})
	if errors.Is(err, syscall.EACCES) { // like EAGAIN
		return syscall.EWOULDBLOCK
	}
	return err
}
