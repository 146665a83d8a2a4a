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

// session is our end of the socket to one process, with the pipe of claims. Its
// owner closes it. One goroutine reads; several may write.
type conn struct {
	f     *os.File
	limit int64 // bytes of a line

	// claims is the pipe that holds a byte for each task that the process may
	// still claim: its reading end, which the process has too, and ours to
	// write to. Both are -1 where there is none.
	permits, permitsOut int

	ring  *ring // of replies that do not come over the socket; nil: none
	rings bool  // the process claims from the ring, and not from the pipe

	buf       []byte // what has been read and not been taken
	lineStart int    // of the next line in buf
	scanned   int    // up to where it has no end of line
	truncated bool   // the line has exceeded the limit; the rest is dropped

	mu        sync.Mutex
	fd        int    // for writes that shall not block; -1 once closed
	unwritten []byte // what could not be written at once
	unsent    bool   // something could not be written at all
	finish    bool   // end our side once rest is written
	writing   chan struct{}
}

// socketPair returns our end as a session and the process's end, which the
// caller closes. withClaims adds the pipe, whose end is claim, or else -1.
func socketPair(limit int64, withClaims bool) (s *conn, theirs, claim int, err error) {
	fds, err := unixPair()
	if err != nil {
		return nil, -1, -1, err
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		closeFD(fds[0])
		closeFD(fds[1])
		return nil, -1, -1, os.NewSyscallError("fcntl", err)
	}
	s = &conn{limit: limit, fd: fds[0], permits: -1, permitsOut: -1}
	if withClaims {
		if s.permits, s.permitsOut, err = pipe(); err == nil {
			// The flag is that of the open file, and so the process's too.
			err = errors.Join(syscall.SetNonblock(s.permits, true), syscall.SetNonblock(s.permitsOut, true))
		}
		if err != nil {
			s.closePipe()
			closeFD(fds[0])
			closeFD(fds[1])
			return nil, -1, -1, err
		}
	}
	s.f = os.NewFile(uintptr(fds[0]), "task socket")
	return s, fds[1], s.permits, nil
}

// errRing says that the process has written nonsense where it says how much it has written.
var errCorruptRing = errors.New("the process has spoiled the memory that it shares with ctworker (CTWORKER_RING_FD)")

// errOver says that a line is longer than it may be.
var errLineTooLong = errors.New("the line is too long")

// next returns the next line without its end; it is valid until the next call. A
// line that exceeds the limit is returned as its beginning with errOver.
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
		if int64(s.scanned-s.lineStart) > s.limit {
			s.truncated = true
		}
		if s.truncated && !bytes.HasPrefix(s.buf[s.lineStart:], replyStart) {
			return s.buf[s.lineStart:][:truncatedSize], errLineTooLong // and it may never end
		}
		if s.truncated && s.scanned-s.lineStart > truncatedSize {
			s.buf = s.buf[:s.lineStart+truncatedSize] // enough to say what it is
			s.scanned = len(s.buf)
		}
		if err := s.fill(); err != nil {
			return s.buf[s.lineStart:], err
		}
	}
}

// replyStart is what a reply begins with; of one that is too long to be kept, no
// more is looked at.
var replyStart = []byte("{")

// overStart is how much is kept of a line that is too long.
const truncatedSize = 4 << 10

// sessionBuffer is what is read at once of many replies, and oneReply where one is all
// that will come.
const (
	sessionBuffer = 64 << 10
	oneReply      = 4 << 10
)

// fill reads more.
func (s *conn) fill() error {
	if s.lineStart > 0 {
		n := copy(s.buf, s.buf[s.lineStart:])
		s.buf, s.scanned, s.lineStart = s.buf[:n], s.scanned-s.lineStart, 0
	}
	least := sessionBuffer
	if s.permits < 0 {
		least = oneReply
	}
	if cap(s.buf)-len(s.buf) < least/4 {
		s.buf = append(make([]byte, 0, max(least, 2*cap(s.buf))), s.buf...)
	} else if cap(s.buf) > 16*sessionBuffer && len(s.buf) == 0 {
		s.buf = make([]byte, 0, sessionBuffer) // a large result has passed
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
		// The process has ended. What it has said is read all the same.
		var rawErr error
		if n, rawErr = syscall.Read(s.fd, room); n <= 0 {
			n = 0
			if rawErr != nil && !errors.Is(rawErr, syscall.EAGAIN) {
				err = rawErr
			}
		}
	}
	if s.ring != nil {
		s.ring.awake()
		if s.ring.used() {
			// What comes over the socket only wakes; and what has been said before its
			// end comes first.
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

// fillFromRing reads what the process has left there. It returns nothing once the
// process knows that the socket is waited at.
func (s *conn) fillFromRing(room []byte) (int, error) {
	for {
		n, err := s.ring.read(room)
		if n > 0 || err != nil || s.ring.sleep() {
			return n, err
		}
	}
}

// unread reports whether the process has closed its end without reading all that
// was sent to it; err is what reading ended with.
func (s *conn) unread(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsent || errors.Is(err, syscall.ECONNRESET)
}

// write sends b, without blocking: what the socket does not take at once is
// written by a goroutine. A socket that is broken is the reader's to find.
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
			s.unsent = true
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

func (s *conn) writeRest() {
	var b []byte
	for {
		s.mu.Lock()
		b, s.unwritten = s.unwritten, nil
		if len(b) == 0 || s.fd < 0 {
			if s.finish && s.fd >= 0 {
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
			s.unwritten, s.unsent = nil, true
			s.mu.Unlock()
		}
	}
}

// end says that nothing more will be sent.
func (s *conn) closeWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish = true
	if s.fd >= 0 && s.writing == nil {
		_ = syscall.Shutdown(s.fd, syscall.SHUT_WR)
	}
}

// grant lets the process claim n more tasks. It comes before their lines.
func (s *conn) addPermits(n int) {
	if s.rings {
		s.ring.grant(n)
		return
	}
	if s.permitsOut >= 0 && n > 0 {
		_, _ = syscall.Write(s.permitsOut, make([]byte, n)) // a pipe has room for thousands
	}
}

// unclaimed returns the number of tasks that were sent to the process and that it has not
// claimed, or 0 if the number is unknown.
func (s *conn) unclaimed() int {
	switch {
	case s.rings:
		return s.ring.unclaimed()
	case s.permits < 0:
		return 0
	}
	n, err := unix.IoctlGetInt(s.permits, fionread)
	if err != nil {
		return 0
	}
	return n
}

// takeBack takes up to n claims back and returns how many it got: so many of the
// tasks that were handed over last will not be started.
func (s *conn) revoke(n int) int {
	if s.permits < 0 || n <= 0 {
		return 0
	}
	if s.rings {
		return s.ring.claim(n)
	}
	for {
		got, err := syscall.Read(s.permits, make([]byte, n))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		return max(got, 0)
	}
}

// interrupt ends a read that waits, now or later.
func (s *conn) interrupt() { _ = s.f.SetReadDeadline(time.Unix(1, 0)) }

// close releases everything. No read may be under way.
func (s *conn) close() {
	s.mu.Lock()
	s.fd = -1
	writing := s.writing
	s.mu.Unlock()
	_ = s.f.Close() // ends a write that waits
	if writing != nil {
		<-writing
	}
	s.closePipe()
	if s.ring != nil {
		s.ring.close()
	}
}

func (s *conn) closePipe() {
	for _, fd := range []*int{&s.permits, &s.permitsOut} {
		if *fd >= 0 {
			closeFD(*fd)
			*fd = -1
		}
	}
}
