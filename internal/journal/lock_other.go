//go:build !linux

package journal

import (
	"errors"
	"os"
)

// setLock takes no lock: on these systems, every lock on a part of a file conflicts with the lock on the
// whole file that each write takes.
func setLock(*os.File, bool) error { return errors.ErrUnsupported }
