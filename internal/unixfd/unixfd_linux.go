package unixfd

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// FIONREAD is the ioctl request for the number of bytes that can be read.
const FIONREAD = unix.TIOCINQ

func pipe2(p []int) error { return syscall.Pipe2(p, syscall.O_CLOEXEC) }

func socketPair() ([2]int, error) {
	return syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
}
