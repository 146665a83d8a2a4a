package procexec

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

// capture takes what a process writes to one pipe. A process that is soon over
// has put it all into the pipe, from where finish takes it. For one that goes on,
// follow starts a goroutine that reads, and ends in finish.
type pipeReader struct {
	fd    int                               // our end, until follow or finish; then -1
	limit int64                             // bytes kept; what comes beyond is read and dropped
	line  func(line []byte, continued bool) // if set, receives each line, and nothing is kept
	buf   []byte
	over  bool // there was more than limit
	cut   bool // the line's beginning has been handed on

	r     *os.File      // our end, from follow on
	ended chan struct{} // closed when the goroutine has ended
	fault error         // panic in line; valid once ended is closed, or after finish
}

// maxLine is the maximum length of a line of a task's standard error. A longer line is passed
// on in pieces of this size, or up to three bytes less to keep characters whole.
const maxLine = 64 << 10

// newCapture returns a capture and the descriptor for the process to write to,
// which the caller closes.
func newCapture(limit int64, line func([]byte, bool)) (c *pipeReader, w int, err error) {
	r, w, err := pipe()
	if err != nil {
		return nil, -1, err
	}
	// Only our end may not block: the process is owed an ordinary pipe.
	if err := syscall.SetNonblock(r, true); err != nil {
		closeFD(r)
		closeFD(w)
		return nil, -1, os.NewSyscallError("fcntl", err)
	}
	return &pipeReader{fd: r, limit: limit, line: line}, w, nil
}

// follow reads on as the process writes.
func (c *pipeReader) follow() {
	c.r, c.fd = os.NewFile(uintptr(c.fd), "pipe"), -1
	c.ended = make(chan struct{})
	go c.run()
}

func (c *pipeReader) run() {
	defer close(c.ended)
	chunk := make([]byte, 4<<10)
	for {
		n, err := c.r.Read(chunk)
		c.take(chunk[:n])
		switch {
		case err == nil:
			if n == len(chunk) && n < maxLine {
				chunk = make([]byte, 16*len(chunk)) // it has much to say
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			if conn, err := c.r.SyscallConn(); err == nil {
				_ = conn.Control(func(fd uintptr) { c.drain(int(fd), chunk) })
			}
			c.flush()
			return
		default: // end of file
			c.flush()
			return
		}
	}
}

// drain takes what is in the pipe now, and waits for nothing: a process that
// lives on may hold the other end.
func (c *pipeReader) drain(fd int, chunk []byte) {
	const capacity = 1 << 20 // of a pipe, at most, for an ordinary user
	for total := 0; total < capacity; {
		n, err := syscall.Read(fd, chunk)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if n <= 0 || err != nil {
			return
		}
		total += n
		c.take(chunk[:n])
	}
}

func (c *pipeReader) take(b []byte) {
	if c.line == nil {
		room := c.limit - int64(len(c.buf))
		if int64(len(b)) > room {
			c.over = true
			b = b[:max(room, 0)]
		}
		c.buf = append(c.buf, b...)
		return
	}
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte{'\n'})
		if room := maxLine - len(c.buf); len(line) > room {
			// The next byte shows whether a character ends at the limit.
			c.buf = append(c.buf, b[:room+1]...)
			whole := utf8cut.Before(c.buf, maxLine)
			c.pass(c.buf[:whole])
			c.buf, c.cut = c.buf[:copy(c.buf, c.buf[whole:])], true
			b = b[room+1:]
			continue
		}
		c.buf = append(c.buf, line...)
		if ended {
			c.flushLine()
		}
		b = rest
	}
}

// pass calls line. After a panic in line, further lines are discarded, so that the process does
// not block on its output.
func (c *pipeReader) pass(line []byte) {
	if c.fault != nil {
		return
	}
	if p := panics.Try(func() { c.line(line, c.cut) }); p != nil {
		c.fault = p.AsError()
	}
}

func (c *pipeReader) flushLine() {
	if line := bytes.TrimSuffix(c.buf, []byte("\r")); len(line) > 0 || !c.cut {
		c.pass(line)
	}
	c.buf, c.cut = c.buf[:0], false
}

// flush hands on a last line without a newline.
func (c *pipeReader) flush() {
	if c.line != nil && len(c.buf) > 0 {
		c.flushLine()
	}
}

// finish takes what the process, which has ended, has left in the pipe, and
// releases it. A second call does nothing.
func (c *pipeReader) finish() {
	switch {
	case c.fd >= 0:
		chunk := chunks.Get().(*[]byte) //nolint:errcheck // it holds nothing else
		c.drain(c.fd, *chunk)
		chunks.Put(chunk)
		c.flush()
		closeFD(c.fd)
		c.fd = -1
	case c.r != nil:
		if !isClosed(c.ended) {
			_ = c.r.SetReadDeadline(time.Unix(1, 0))
			<-c.ended
		}
		_ = c.r.Close()
	}
}

// chunks are buffers to read into.
var chunks = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// input returns a descriptor from which a process can read content, for the
// caller to close, and what finishes the writing of it.
func stdinPipe(content []byte) (r int, finish func(), err error) {
	r, w, err := pipe()
	if err != nil {
		return -1, nil, err
	}
	if err := syscall.SetNonblock(w, true); err != nil {
		closeFD(r)
		closeFD(w)
		return -1, nil, os.NewSyscallError("fcntl", err)
	}
	// Almost every task fits into the pipe, and is in it before the process
	// starts.
	n, err := syscall.Write(w, content)
	if n < 0 || err != nil {
		n = 0
	}
	if n == len(content) {
		closeFD(w)
		return r, func() {}, nil
	}
	f := os.NewFile(uintptr(w), "pipe")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(f, bytes.NewReader(content[n:])) // EPIPE: it did not want to know
		_ = f.Close()
	}()
	return r, func() {
		_ = f.SetWriteDeadline(time.Unix(1, 0))
		<-ended
	}, nil
}

// pipe returns a pipe whose ends no other process inherits. They block.
func pipe() (r, w int, err error) {
	var p [2]int
	if err := pipe2(p[:]); err != nil {
		return -1, -1, os.NewSyscallError("pipe", err)
	}
	return p[0], p[1], nil
}

func closeFD(fd int) { _ = syscall.Close(fd) }
