package outputlog

import (
	"errors"
	"os"
	"syscall"
)

// errLocked means that another run writes to the same compressed file.
var errLocked = errors.New("another run writes to this file: use another file, or a name without .zst, to which several runs can append")

// lock takes a lock that lasts until the file is closed.
func lock(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}
