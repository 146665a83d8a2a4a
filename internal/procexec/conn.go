package procexec

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is this process's end of the connection to one worker process: the socket, the pipe
// of permits and the ring. One goroutine reads; several may write. The owner closes it.
type conn struct {
	f       *os.File
	maxLine int64 // in bytes

	// The pipe of permits holds one byte per task that the process may still claim. The process
	// reads from permitsRead, too. Both are -1 if there is no pipe.
	permitsRead, permitsWrite int

	ring       *engineRing // replies that do not arrive over the socket; nil if there is none
	ringActive bool        // the process takes permits from the ring instead of the pipe

	buf       []byte // data read and not yet returned
	lineStart int    // start of the next line in buf
	scanned   int    // buf[lineStart:scanned] contains no newline
	truncated bool   // the line exceeds maxLine; the remainder is discarded

	mu               sync.Mutex
	fd               int    // for non-blocking writes; -1 once closed
	unwritten        []byte // data that the socket did not accept yet
	writeFailed      bool   // a write has failed
	closeWhenWritten bool   // close our side for writing once unwritten is empty
	writing          chan struct{}
}

// socketPair returns a connection, and the process's end of its socket, which the caller
// closes. If withPermits is true, the connection has a pipe of permits, and permitsFD is the
// process's end of it; otherwise permitsFD is -1.
func socketPair(limit int64, withPermits bool) (s *conn, childFD, permitsFD int, err error) {
	fds, err := unixPair()
	if err != nil {
		return nil, -1, -1, err
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		closeFD(fds[0])
		closeFD(fds[1])
		return nil, -1, -1, os.NewSyscallError("fcntl", err)
	}
	s = &conn{maxLine: limit, fd: fds[0], permitsRead: -1, permitsWrite: -1}
	if withPermits {
		if s.permitsRead, s.permitsWrite, err = pipe(); err == nil {
			// The flag belongs to the open file description, so it applies to the process, too.
			err = errors.Join(syscall.SetNonblock(s.permitsRead, true), syscall.SetNonblock(s.permitsWrite, true))
		}
		if err != nil {
			s.closePipe()
			closeFD(fds[0])
			closeFD(fds[1])
			return nil, -1, -1, err
		}
	}
	s.f = os.NewFile(uintptr(fds[0]), "task socket")
	return s, fds[1], s.permitsRead, nil
}

// errCorruptRing is returned if the write position in the ring is out of range.
var errCorruptRing = errors.New("corrupt shared ring: the process stored an invalid write position (CTWORKER_RING_FD)")

// errLineTooLong is returned if a line exceeds maxLine.
var errLineTooLong = errors.New("line too long")

// next returns the next line without its newline. It is valid until the next call. Of a line
// that exceeds maxLine, next returns the beginning and errLineTooLong.
func (s *conn) next() ([]byte, error) {
	for {
		if i := bytes.IndexByte(s.buf[s.scanned:], '\n'); i >= 0 {
			line := s.buf[s.lineStart : s.scanned+i]
			s.lineStart = s.scanned + i + 1
			s.scanned = s.lineStart
			if s.truncated {
				s.truncated = false
				return line[:min(len(line), truncatedSize)], errLineTooLong
			}
			return line, nil
		}
		s.scanned = len(s.buf)
		if int64(s.scanned-s.lineStart) > s.maxLine {
			s.truncated = true
		}
		if s.truncated && !bytes.HasPrefix(s.buf[s.lineStart:], replyStart) {
			return s.buf[s.lineStart:][:truncatedSize], errLineTooLong // now, because the line may never end
		}
		if s.truncated && s.scanned-s.lineStart > truncatedSize {
			s.buf = s.buf[:s.lineStart+truncatedSize] // enough for an error message
			s.scanned = len(s.buf)
		}
		if err := s.readMore(); err != nil {
			return s.buf[s.lineStart:], err
		}
	}
}

// replyStart is the first byte of a reply. It is all that is checked of a reply that is too
// long.
var replyStart = []byte("{")

// truncatedSize is the number of bytes that are kept of a line that is too long.
const truncatedSize = 4 << 10

// readBufferSize is the size of the read buffer. smallReadBufferSize is its size if the process
// sends only one reply.
const (
	readBufferSize      = 64 << 10
	smallReadBufferSize = 4 << 10
)

// readMore reads more data into buf.
func (s *conn) readMore() error {
	if s.lineStart > 0 {
		n := copy(s.buf, s.buf[s.lineStart:])
		s.buf, s.scanned, s.lineStart = s.buf[:n], s.scanned-s.lineStart, 0
	}
	minSize := readBufferSize
	if s.permitsRead < 0 {
		minSize = smallReadBufferSize
	}
	if cap(s.buf)-len(s.buf) < minSize/4 {
		s.buf = append(make([]byte, 0, max(minSize, 2*cap(s.buf))), s.buf...)
	} else if cap(s.buf) > 16*readBufferSize && len(s.buf) == 0 {
		s.buf = make([]byte, 0, readBufferSize) // shrink it after a large result
	}
	room := s.buf[len(s.buf):cap(s.buf)]
	if s.ring != nil {
		if n, err := s.fillFromRing(room); n > 0 || err != nil {
			s.buf = s.buf[:len(s.buf)+n]
			return err
		}
	}
	n, err := s.f.Read(room)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// The process has exited. Read what it wrote before.
		var rawErr error
		if n, rawErr = syscall.Read(s.fd, room); n <= 0 {
			n = 0
			if rawErr != nil && !errors.Is(rawErr, syscall.EAGAIN) {
				err = rawErr
			}
		}
	}
	if s.ring != nil {
		s.ring.endWait()
		if s.ring.inUse() {
			// Data on the socket only wakes this side. The replies that the process wrote
			// before it exited come before the end of the file.
			had := n
			if n, err2 := s.ring.read(room); n > 0 || err2 != nil {
				s.buf = s.buf[:len(s.buf)+n]
				return err2
			} else if had > 0 {
				return nil
			}
		}
	}
	s.buf = s.buf[:len(s.buf)+n]
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.EOF
	}
	return err
}

// fillFromRing reads from the ring. If it returns no data, the process knows that this side
// waits for data on the socket.
func (s *conn) fillFromRing(room []byte) (int, error) {
	for {
		n, err := s.ring.read(room)
		if n > 0 || err != nil || s.ring.prepareWait() {
			return n, err
		}
	}
}

// unread reports whether the process closed its end without reading everything that was sent to
// it. err is the error of the last read.
func (s *conn) unread(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeFailed || errors.Is(err, syscall.ECONNRESET)
}

// write sends b without blocking. A goroutine writes what the socket does not accept
// immediately. Errors are ignored, because the reader notices a broken socket.
func (s *conn) write(b []byte) {
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
func (s *conn) writeRest() {
	var b []byte
	for {
		s.mu.Lock()
		b, s.unwritten = s.unwritten, nil
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

// closeWrite closes the socket for writing once everything is written.
func (s *conn) closeWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeWhenWritten = true
	if s.fd >= 0 && s.writing == nil {
		_ = syscall.Shutdown(s.fd, syscall.SHUT_WR)
	}
}

// addPermits lets the process claim n more tasks. It must be called before their lines are
// sent.
func (s *conn) addPermits(n int) {
	if s.ringActive {
		s.ring.addPermits(n)
		return
	}
	if s.permitsWrite >= 0 && n > 0 {
		_, _ = syscall.Write(s.permitsWrite, make([]byte, n)) // does not block: a pipe has room for thousands of bytes
	}
}

// unclaimed returns the number of tasks that were sent to the process and that it has not
// claimed, or 0 if the number is unknown.
func (s *conn) unclaimed() int {
	switch {
	case s.ringActive:
		return s.ring.unclaimed()
	case s.permitsRead < 0:
		return 0
	}
	n, err := unix.IoctlGetInt(s.permitsRead, fionread)
	if err != nil {
		return 0
	}
	return n
}

// revoke takes back up to n permits and returns how many it got. The process will not start
// that many of the tasks that were sent last.
func (s *conn) revoke(n int) int {
	if s.permitsRead < 0 || n <= 0 {
		return 0
	}
	if s.ringActive {
		return s.ring.claim(n)
	}
	for {
		got, err := syscall.Read(s.permitsRead, make([]byte, n))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		return max(got, 0)
	}
}

// interrupt ends the current or the next read that blocks.
func (s *conn) interrupt() { _ = s.f.SetReadDeadline(time.Unix(1, 0)) }

// close releases all resources. It must not be called during a read.
func (s *conn) close() {
	s.mu.Lock()
	s.fd = -1
	writing := s.writing
	s.mu.Unlock()
	_ = s.f.Close() // ends a blocked write
	if writing != nil {
		<-writing
	}
	s.closePipe()
	if s.ring != nil {
		s.ring.close()
	}
}

func (s *conn) closePipe() {
	for _, fd := range []*int{&s.permitsRead, &s.permitsWrite} {
		if *fd >= 0 {
			closeFD(*fd)
			*fd = -1
		}
	}
}
