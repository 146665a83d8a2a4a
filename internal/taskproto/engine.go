package taskproto

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/unixfd"
)

// An EngineConn is ctworker's end of the connection to one worker process. One goroutine may call
// Next and HasLine; the other methods are safe for concurrent use. The owner must close the
// connection.
type EngineConn struct {
	lines   lineReader
	in      inbound
	permits permits // nil if tasks are not claimed
	socket  *socket
	ring    *engineRing // nil unless OpenRing was called
}

// inbound is a transport of the replies. Read blocks until there is data. If it is woken without
// data, it returns 0 and a nil error.
type inbound interface{ io.Reader }

// permits counts the tasks that were sent to the process and that the process may still claim.
type permits interface {
	// add adds n permits. It does not block.
	add(n int)
	// count returns the number of permits, or 0 if it is unknown.
	count() int
	// take takes back up to n permits, and returns how many it got.
	take(n int) int
	close()
}

// ChildFDs are the descriptors that a worker process inherits. The caller must close Socket and
// Ring after it has started the process. Permits belongs to the EngineConn. Permits and Ring are -1
// if they do not exist.
type ChildFDs struct{ Socket, Permits, Ring int }

// readBufferSize is the size of the read buffer. If tasks are not claimed, only one reply is in
// flight, and the size is smallReadBufferSize.
const (
	readBufferSize      = 64 << 10
	smallReadBufferSize = 4 << 10
)

// NewEngineConn returns a connection and the descriptors for the process. A line from the process
// may have at most maxLine bytes; 0 means no limit. If withPermits is true, the process may claim
// tasks.
func NewEngineConn(maxLine int64, withPermits bool) (*EngineConn, ChildFDs, error) {
	fds := ChildFDs{-1, -1, -1}
	s, childFD, err := newSocket()
	if err != nil {
		return nil, fds, err
	}
	fds.Socket = childFD
	c := &EngineConn{socket: s, in: s, lines: lineReader{r: s, maxLine: maxLine, size: smallReadBufferSize}}
	if withPermits {
		c.lines.size = readBufferSize
		p, err := newPipePermits()
		if err != nil {
			s.close()
			unixfd.Close(childFD)
			return nil, ChildFDs{-1, -1, -1}, err
		}
		c.permits, fds.Permits = p, p.r
	}
	return c, fds, nil
}

// OpenRing creates a ring that the process may use, and returns the descriptor for the process. The
// caller must close this descriptor. If the system has no ring, fd is -1, and the process uses the
// socket and the pipe of permits.
func (c *EngineConn) OpenRing() (fd int, err error) {
	r, fd, err := newEngineRing()
	if err != nil || r == nil {
		return -1, err
	}
	c.ring = r
	c.in = &ringReader{ring: r, socket: c.socket}
	c.lines.r = c.in
	return fd, nil
}

// OnReady applies the process's Ready message. It must be called before the first AddPermits.
func (c *EngineConn) OnReady(r Ready) {
	if r.Ring && c.ring != nil && c.permits != nil {
		c.permits.close()
		c.permits = ringPermits{c.ring}
	}
}

// Next returns the next line without its newline. The line is valid until the next call. If a line is
// too long, Next returns the start of the line and ErrLineTooLong. When the connection ends, Next
// returns the incomplete last line, and io.EOF or another error.
func (c *EngineConn) Next() ([]byte, error) { return c.lines.next() }

// HasLine reports whether Next returns a line without waiting. It may be called only by the goroutine
// that calls Next.
func (c *EngineConn) HasLine() bool { return c.lines.hasLine() }

// Write sends b without blocking. If the socket does not accept all data immediately, a goroutine
// writes the rest. Errors are ignored, because Next also returns an error if the socket is broken.
func (c *EngineConn) Write(b []byte) { c.socket.write(b) }

// Unsent returns the number of bytes of earlier Writes that the socket has not accepted yet, because
// the process does not read.
func (c *EngineConn) Unsent() int {
	c.socket.mu.Lock()
	defer c.socket.mu.Unlock()
	return c.socket.unsent + len(c.socket.unwritten)
}

// CloseWrite ends the input of the process after all data has been written.
func (c *EngineConn) CloseWrite() { c.socket.closeWrite() }

// AddPermits lets the process claim n more tasks. Call it before the lines of these tasks are sent.
// It does nothing if tasks are not claimed.
func (c *EngineConn) AddPermits(n int) {
	if c.permits != nil && n > 0 {
		c.permits.add(n)
	}
}

// Unclaimed returns the number of tasks that were sent and not claimed, or 0 if it is unknown.
func (c *EngineConn) Unclaimed() int {
	if c.permits == nil {
		return 0
	}
	return c.permits.count()
}

// Revoke takes back up to n permits, and returns the number of permits that it got. If it got k
// permits, the process will not start the last k tasks that were sent.
func (c *EngineConn) Revoke(n int) int {
	if c.permits == nil || n <= 0 {
		return 0
	}
	return c.permits.take(n)
}

// Unread reports whether the process closed its end without reading everything that was sent to it.
// err is the last error of Next.
func (c *EngineConn) Unread(err error) bool {
	return c.socket.hasWriteFailed() || errors.Is(err, syscall.ECONNRESET)
}

// Interrupt makes Next return an error instead of waiting for data. Next first returns all lines
// that the process wrote before.
func (c *EngineConn) Interrupt() { _ = c.socket.f.SetReadDeadline(time.Unix(1, 0)) }

// SetDeadline sets the time after which a call of Next that blocks returns os.ErrDeadlineExceeded.
func (c *EngineConn) SetDeadline(t time.Time) {
	c.socket.keepDeadline = true
	_ = c.socket.f.SetReadDeadline(t)
}

// Close releases all resources. It must not be called during Next.
func (c *EngineConn) Close() {
	c.socket.close()
	if c.permits != nil {
		c.permits.close()
	}
	if c.ring != nil {
		c.ring.close()
	}
}

// pipePermits are permits in a pipe: one byte per task. ctworker and the process both take permits
// by reading from the pipe.
type pipePermits struct{ r, w int }

func newPipePermits() (*pipePermits, error) {
	r, w, err := unixfd.Pipe()
	if err != nil {
		return nil, err
	}
	p := &pipePermits{r, w}
	// O_NONBLOCK belongs to the open file description, so it also applies to the process.
	if err := errors.Join(syscall.SetNonblock(r, true), syscall.SetNonblock(w, true)); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pipePermits) add(n int) {
	_, _ = syscall.Write(p.w, make([]byte, n)) // does not block: a pipe has room for thousands of bytes
}

func (p *pipePermits) count() int {
	n, err := unix.IoctlGetInt(p.r, unixfd.FIONREAD)
	if err != nil {
		return 0
	}
	return n
}

func (p *pipePermits) take(n int) int {
	for {
		got, err := syscall.Read(p.r, make([]byte, n))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		return max(got, 0)
	}
}

func (p *pipePermits) close() {
	for _, fd := range []*int{&p.r, &p.w} {
		if *fd >= 0 {
			unixfd.Close(*fd)
			*fd = -1
		}
	}
}

// socket is ctworker's end of the socket.
type socket struct {
	f            *os.File
	keepDeadline bool // Read returns os.ErrDeadlineExceeded instead of reading the remaining data

	mu               sync.Mutex
	fd               int    // for non-blocking reads and writes; -1 once closed
	unwritten        []byte // data that the socket did not accept yet
	unsent           int    // size of the data that writeRest is writing
	writeFailed      bool   // a write has failed
	closeWhenWritten bool   // shut down the write side when unwritten is empty
	writing          chan struct{}
}

func newSocket() (s *socket, childFD int, err error) {
	fds, err := unixfd.SocketPair()
	if err != nil {
		return nil, -1, err
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		unixfd.Close(fds[0])
		unixfd.Close(fds[1])
		return nil, -1, os.NewSyscallError("fcntl", err)
	}
	return &socket{f: os.NewFile(uintptr(fds[0]), "task socket"), fd: fds[0]}, fds[1], nil
}

// Read reads replies.
func (s *socket) Read(room []byte) (int, error) {
	n, err := s.f.Read(room)
	if errors.Is(err, os.ErrDeadlineExceeded) && !s.keepDeadline {
		// Interrupt was called. Read the data that the process wrote before.
		var rawErr error
		if n, rawErr = syscall.Read(s.fd, room); n <= 0 {
			n = 0
			if rawErr != nil && !errors.Is(rawErr, syscall.EAGAIN) {
				err = rawErr
			}
		}
	}
	if n > 0 {
		return n, nil
	}
	if err == nil {
		err = io.EOF
	}
	return 0, err
}

func (s *socket) hasWriteFailed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeFailed
}

func (s *socket) write(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return
	}
	if s.writing == nil {
		n, err := syscall.Write(s.fd, b)
		if n == len(b) {
			return
		}
		if err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR) {
			s.writeFailed = true
			return
		}
		b = b[max(n, 0):]
		s.writing = make(chan struct{})
		s.unwritten = append(s.unwritten[:0], b...)
		go s.writeRest()
		return
	}
	s.unwritten = append(s.unwritten, b...)
}

// writeRest writes unwritten until it is empty.
func (s *socket) writeRest() {
	var b []byte
	for {
		s.mu.Lock()
		b, s.unwritten = s.unwritten, nil
		s.unsent = len(b)
		if len(b) == 0 || s.fd < 0 {
			if s.closeWhenWritten && s.fd >= 0 {
				_ = syscall.Shutdown(s.fd, syscall.SHUT_WR)
			}
			close(s.writing)
			s.writing = nil
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if _, err := s.f.Write(b); err != nil {
			s.mu.Lock()
			s.unwritten, s.writeFailed = nil, true
			s.mu.Unlock()
		}
	}
}

func (s *socket) closeWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeWhenWritten = true
	if s.fd >= 0 && s.writing == nil {
		_ = syscall.Shutdown(s.fd, syscall.SHUT_WR)
	}
}

func (s *socket) close() {
	s.mu.Lock()
	s.fd = -1
	writing := s.writing
	s.mu.Unlock()
	_ = s.f.Close() // ends a blocked write
	if writing != nil {
		<-writing
	}
}
