package taskproto

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
)

// A WorkerConn is a worker process's end of its connection to ctworker. One goroutine may call
// Claim while another goroutine calls one of the other methods. Calls of the other methods must not
// overlap.
//
// The descriptors are read and written directly, without the poller of the Go runtime. The poller
// would only add latency, because the process has nothing else to do while a read blocks.
type WorkerConn struct {
	lines lineReader
	out   outbound
	ready Ready
}

// outbound is a transport of replies and claims.
type outbound interface {
	// Write writes a line. It blocks until there is room.
	Write(line []byte) error
	// Claim reports whether the process may start the next task.
	Claim() bool
}

// workerBufferSize is the size of the buffer for tasks.
const workerBufferSize = 64 << 10

// InWorkerProcess reports whether ctworker has started this process as a worker process.
func InWorkerProcess() bool { return os.Getenv(FDVar) != "" }

// OpenWorker takes ownership of the descriptors that the environment variables name. It removes the
// variables and sets close-on-exec on the descriptors. Without this, a process that a task starts
// could act as a worker process or keep the socket open.
func OpenWorker() (*WorkerConn, error) {
	fd, err := DescriptorFrom(FDVar)
	if err != nil {
		return nil, err
	}
	if kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE); err != nil || kind != syscall.SOCK_STREAM {
		return nil, fmt.Errorf("%s=%d is not a connected socket: the variable was inherited from another process; unset it", FDVar, fd)
	}
	syscall.CloseOnExec(fd)
	_ = syscall.SetNonblock(fd, false)
	s := &socketOutbound{fd: fd, claimFD: -1}
	c := &WorkerConn{lines: lineReader{r: rawReader(fd), size: workerBufferSize}, out: s, ready: Ready{Version: Version}}
	if os.Getenv(ClaimFDVar) != "" {
		if s.claimFD, err = DescriptorFrom(ClaimFDVar); err != nil {
			return nil, err
		}
		syscall.CloseOnExec(s.claimFD)
		c.ready.Ahead = true
		if os.Getenv(RingFDVar) != "" {
			ringFD, err := DescriptorFrom(RingFDVar)
			if err != nil {
				return nil, err
			}
			if ring, err := OpenRing(ringFD, fd); err == nil { // otherwise, the socket and the pipe are used
				c.out, c.ready.Ring = ring, true
			}
		}
	}
	for _, name := range []string{FDVar, ClaimFDVar, RingFDVar} {
		_ = os.Unsetenv(name)
	}
	return c, nil
}

// DescriptorFrom returns the descriptor in an environment variable.
func DescriptorFrom(name string) (int, error) {
	fd, err := strconv.Atoi(os.Getenv(name))
	if err != nil || fd < 0 {
		return -1, fmt.Errorf("%s=%q is not a file descriptor", name, os.Getenv(name))
	}
	return fd, nil
}

// SendReady sends the Ready message. sdk is the name and the version of the SDK.
func (c *WorkerConn) SendReady(sdk string) error {
	r := c.ready
	r.SDK = sdk
	return c.Write(r.Append(nil))
}

// ReadLine returns the next line without its newline. The line is valid until the next call.
func (c *WorkerConn) ReadLine() ([]byte, error) { return c.lines.next() }

// Claim reports whether the process may start the next task. If not, ctworker has taken the task
// back, and the process must return the task without starting it. Claim always returns true
// if ctworker gave the process no means to claim tasks, because it then takes no task back.
func (c *WorkerConn) Claim() bool { return c.out.Claim() }

// Write writes a line. An error means that ctworker has exited.
func (c *WorkerConn) Write(line []byte) error { return c.out.Write(line) }

// socketOutbound writes replies to the socket, and takes permits from the pipe.
type socketOutbound struct {
	fd      int
	claimFD int // -1 if tasks arrive one at a time
	one     [1]byte
}

func (s *socketOutbound) Write(b []byte) error {
	for len(b) > 0 {
		n, err := syscall.Write(s.fd, b)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("write", err)
		}
		b = b[max(n, 0):]
	}
	return nil
}

func (s *socketOutbound) Claim() bool {
	if s.claimFD < 0 {
		return true
	}
	for {
		n, err := syscall.Read(s.claimFD, s.one[:])
		if !errors.Is(err, syscall.EINTR) {
			return n == 1
		}
	}
}

// rawReader reads from a descriptor.
type rawReader int

func (fd rawReader) Read(b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), b)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
