//go:build !linux

package journal

import "golang.org/x/sys/unix"

// setLock sets a lock of this process.
const setLock = unix.F_SETLK
