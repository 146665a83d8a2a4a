//go:build !linux

package eventlog

import "syscall"

// setLock takes or releases the lock for a write.
func setLock(fd, how int) error { return syscall.Flock(fd, how) }
