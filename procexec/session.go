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
type session struct {
	f     *os.File
	limit int64 // bytes of a line

	// claims is the pipe that holds a byte for each task that the process may
	// still claim: its reading end, which the process has too, and ours to
	// write to. Both are -1 where there is none.
	claims, grants int

	ring  *ring // of replies that do not come over the socket; nil: none
	rings bool  // the process claims from the ring, and not from the pipe

	buf   []byte // what has been read and not been taken
	begin int    // of the next line in buf
	seen  int    // up to where it has no end of line
	over  bool   // the line has exceeded the limit; the rest is dropped

	mu      sync.Mutex
	fd      int    // for writes that shall not block; -1 once closed
	rest    []byte // what could not be written at once
	unsent  bool   // something could not be written at all
	finish  bool   // end our side once rest is written
	writing chan struct{}
}

// socketPair returns our end as a session and the process's end, which the
// caller closes. withClaims adds the pipe, whose end is claim, or else -1.
func socketPair(limit int64, withClaims bool) (s *session, theirs, claim int, err error) {
	fds, err := unixPair()
	if err != nil {
		return nil, -1, -1, err
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		closeFD(fds[0])
		closeFD(fds[1])
		return nil, -1, -1, os.NewSyscallError("fcntl", err)
	}
	s = &session{limit: limit, fd: fds[0], claims: -1, grants: -1}
	if withClaims {
		if s.claims, s.grants, err = pipe(); err == nil {
			// The flag is that of the open file, and so the process's too.
			err = errors.Join(syscall.SetNonblock(s.claims, true), syscall.SetNonblock(s.grants, true))
		}
		if err != nil {
			s.closePipe()
			closeFD(fds[0])
			closeFD(fds[1])
			return nil, -1, -1, err
		}
	}
	s.f = os.NewFile(uintptr(fds[0]), "task socket")
	return s, fds[1], s.claims, nil
}

// errRing says that the process has written nonsense where it says how much it has written.
var errRing = errors.New("the process has spoiled the memory that it shares with ctworker (CTWORKER_RING_FD)")

// errOver says that a line is longer than it may be.
var errOver = errors.New("the line is too long")

// next returns the next line without its end; it is valid until the next call. A
// line that exceeds the limit is returned as its beginning with errOver.
func (s *session) next() ([]byte, error) {
	for {
		if i := bytes.IndexByte(s.buf[s.seen:], '\n'); i >= 0 {
			line := s.buf[s.begin : s.seen+i]
			s.begin = s.seen + i + 1
			s.seen = s.begin
			if s.over {
				s.over = false
				return line[:min(len(line), overStart)], errOver
			}
			return line, nil
		}
		s.seen = len(s.buf)
		if int64(s.seen-s.begin) > s.limit {
			s.over = true
		}
		if s.over && !bytes.HasPrefix(s.buf[s.begin:], replyStart) {
			return s.buf[s.begin:][:overStart], errOver // and it may never end
		}
		if s.over && s.seen-s.begin > overStart {
			s.buf = s.buf[:s.begin+overStart] // enough to say what it is
			s.seen = len(s.buf)
		}
		if err := s.fill(); err != nil {
			return s.buf[s.begin:], err
		}
	}
}

// replyStart is what a reply begins with; of one that is too long to be kept, no
// more is looked at.
var replyStart = []byte("{")

// overStart is how much is kept of a line that is too long.
const overStart = 4 << 10

// sessionBuffer is what is read at once of many replies, and oneReply where one is all
// that will come.
const (
	sessionBuffer = 64 << 10
	oneReply      = 4 << 10
)

// fill reads more.
func (s *session) fill() error {
	if s.begin > 0 {
		n := copy(s.buf, s.buf[s.begin:])
		s.buf, s.seen, s.begin = s.buf[:n], s.seen-s.begin, 0
	}
	least := sessionBuffer
	if s.claims < 0 {
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
func (s *session) fillFromRing(room []byte) (int, error) {
	for {
		n, err := s.ring.read(room)
		if n > 0 || err != nil || s.ring.sleep() {
			return n, err
		}
	}
}

// unread reports whether the process has closed its end without reading all that
// was sent to it; err is what reading ended with.
func (s *session) unread(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsent || errors.Is(err, syscall.ECONNRESET)
}

// write sends b, without blocking: what the socket does not take at once is
// written by a goroutine. A socket that is broken is the reader's to find.
func (s *session) write(b []byte) {
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
		s.rest = append(s.rest[:0], b...)
		go s.writeRest()
		return
	}
	s.rest = append(s.rest, b...)
}

func (s *session) writeRest() {
	var b []byte
	for {
		s.mu.Lock()
		b, s.rest = s.rest, nil
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
			s.rest, s.unsent = nil, true
			s.mu.Unlock()
		}
	}
}

// end says that nothing more will be sent.
func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish = true
	if s.fd >= 0 && s.writing == nil {
		_ = syscall.Shutdown(s.fd, syscall.SHUT_WR)
	}
}

// grant lets the process claim n more tasks. It comes before their lines.
func (s *session) grant(n int) {
	if s.rings {
		s.ring.grant(n)
		return
	}
	if s.grants >= 0 && n > 0 {
		_, _ = syscall.Write(s.grants, make([]byte, n)) // a pipe has room for thousands
	}
}

// unclaimed returns the number of tasks that were sent to the process and that it has not
// claimed, or 0 if the number is unknown.
func (s *session) unclaimed() int {
	switch {
	case s.rings:
		return s.ring.unclaimed()
	case s.claims < 0:
		return 0
	}
	n, err := unix.IoctlGetInt(s.claims, fionread)
	if err != nil {
		return 0
	}
	return n
}

// takeBack takes up to n claims back and returns how many it got: so many of the
// tasks that were handed over last will not be started.
func (s *session) takeBack(n int) int {
	if s.claims < 0 || n <= 0 {
		return 0
	}
	if s.rings {
		return s.ring.claim(n)
	}
	for {
		got, err := syscall.Read(s.claims, make([]byte, n))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		return max(got, 0)
	}
}

// interrupt ends a read that waits, now or later.
func (s *session) interrupt() { _ = s.f.SetReadDeadline(time.Unix(1, 0)) }

// close releases everything. No read may be under way.
func (s *session) close() {
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

func (s *session) closePipe() {
	for _, fd := range []*int{&s.claims, &s.grants} {
		if *fd >= 0 {
			closeFD(*fd)
			*fd = -1
		}
	}
}
