// Package unixfd creates pairs of file descriptors that child processes do not inherit.
package unixfd

import (
	"os"
	"syscall"
)

// Pipe returns the ends of a blocking pipe. Both have the close-on-exec flag.
func Pipe() (r, w int, err error) {
	var p [2]int
	if err := pipe2(p[:]); err != nil {
		return -1, -1, os.NewSyscallError("pipe", err)
	}
	return p[0], p[1], nil
}

// SocketPair returns two connected, blocking stream sockets. Both have the close-on-exec flag.
func SocketPair() ([2]int, error) {
	fds, err := socketPair()
	return fds, os.NewSyscallError("socketpair", err)
}

// Close closes fd and ignores the error.
func Close(fd int) { _ = syscall.Close(fd) }
