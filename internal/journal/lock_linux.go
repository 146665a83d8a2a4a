package journal

import (
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// setLock takes a lock that belongs to the open file, not to the process. It is on the last byte that a
// file can have. The lock of each write is on all bytes before it (package eventlog).
func setLock(f *os.File, exclusive bool) error {
	kind := int16(unix.F_RDLCK)
	if exclusive {
		kind = unix.F_WRLCK
	}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: math.MaxInt64 - 1, Len: 1})
}
