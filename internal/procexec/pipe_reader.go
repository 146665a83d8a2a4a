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

	"github.com/ctworker/ctworker/internal/unixfd"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// pipeReader reads what a process writes to one pipe. finish reads the output of a short
// process from the pipe after the process has exited. For a longer process, start starts a
// goroutine that reads while the process runs; it ends in finish.
type pipeReader struct {
	fd        int                               // our end, until start or finish; then -1
	limit     int64                             // number of bytes kept; further bytes are read and discarded
	onLine    func(line []byte, continued bool) // if not nil, receives each line, and nothing is kept
	buf       []byte
	truncated bool // the output exceeds limit
	continued bool // the beginning of the line has been passed to onLine

	r       *os.File      // our end, after start
	done    chan struct{} // closed when the goroutine has ended
	lineErr error         // panic in onLine; valid once done is closed, or after finish
}

// maxLine is the maximum length of a line of a task's standard error. A longer line is passed
// on in pieces of this size, or up to three bytes less to keep characters whole.
const maxLine = 64 << 10

// newPipeReader returns a pipeReader, and the descriptor for the process to write to, which the
// caller closes.
func newPipeReader(limit int64, line func([]byte, bool)) (c *pipeReader, w int, err error) {
	r, w, err := unixfd.Pipe()
	if err != nil {
		return nil, -1, err
	}
	// Only our end is non-blocking: programs expect a blocking pipe.
	if err := syscall.SetNonblock(r, true); err != nil {
		unixfd.Close(r)
		unixfd.Close(w)
		return nil, -1, os.NewSyscallError("fcntl", err)
	}
	return &pipeReader{fd: r, limit: limit, onLine: line}, w, nil
}

// start starts a goroutine that reads while the process runs.
func (c *pipeReader) start() {
	c.r, c.fd = os.NewFile(uintptr(c.fd), "pipe"), -1
	c.done = make(chan struct{})
	go c.run()
}

func (c *pipeReader) run() {
	defer close(c.done)
	chunk := make([]byte, 4<<10)
	for {
		n, err := c.r.Read(chunk)
		c.add(chunk[:n])
		switch {
		case err == nil:
			if n == len(chunk) && n < maxLine {
				chunk = make([]byte, 16*len(chunk)) // the process writes a lot
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			if conn, err := c.r.SyscallConn(); err == nil {
				_ = conn.Control(func(fd uintptr) { c.readAvailable(int(fd), chunk) })
			}
			c.flush()
			return
		default: // end of file
			c.flush()
			return
		}
	}
}

// readAvailable reads what is in the pipe, without blocking. A process that is still running
// may hold the other end.
func (c *pipeReader) readAvailable(fd int, chunk []byte) {
	const capacity = 1 << 20 // maximum size of a pipe of an unprivileged user; pipe(7)
	for total := 0; total < capacity; {
		n, err := syscall.Read(fd, chunk)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if n <= 0 || err != nil {
			return
		}
		total += n
		c.add(chunk[:n])
	}
}

// add handles data that was read: it keeps it, or passes its lines to onLine.
func (c *pipeReader) add(b []byte) {
	if c.onLine == nil {
		room := c.limit - int64(len(c.buf))
		if int64(len(b)) > room {
			c.truncated = true
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
			c.emitLine(c.buf[:whole])
			c.buf, c.continued = c.buf[:copy(c.buf, c.buf[whole:])], true
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

// emitLine calls onLine. After a panic in onLine, further lines are discarded, so that the
// process does not block on its output.
func (c *pipeReader) emitLine(line []byte) {
	if c.lineErr != nil {
		return
	}
	if p := panics.Try(func() { c.onLine(line, c.continued) }); p != nil {
		c.lineErr = p.AsError()
	}
}

func (c *pipeReader) flushLine() {
	if line := bytes.TrimSuffix(c.buf, []byte("\r")); len(line) > 0 || !c.continued {
		c.emitLine(line)
	}
	c.buf, c.continued = c.buf[:0], false
}

// flush passes on a last line without a newline.
func (c *pipeReader) flush() {
	if c.onLine != nil && len(c.buf) > 0 {
		c.flushLine()
	}
}

// finish reads what is left in the pipe after the process has exited, and closes the pipe.
// Further calls have no effect.
func (c *pipeReader) finish() {
	switch {
	case c.fd >= 0:
		chunk := chunkPool.Get().(*[]byte) //nolint:errcheck // it holds nothing else
		c.readAvailable(c.fd, *chunk)
		chunkPool.Put(chunk)
		c.flush()
		unixfd.Close(c.fd)
		c.fd = -1
	case c.r != nil:
		if !isClosed(c.done) {
			_ = c.r.SetReadDeadline(time.Unix(1, 0))
			<-c.done
		}
		_ = c.r.Close()
	}
}

// chunkPool holds read buffers.
var chunkPool = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// stdinPipe returns a descriptor from which a process can read content, and which the caller
// closes, and a function that stops writing. The caller must call it after the process has
// exited.
func stdinPipe(content []byte) (r int, finish func(), err error) {
	r, w, err := unixfd.Pipe()
	if err != nil {
		return -1, nil, err
	}
	if err := syscall.SetNonblock(w, true); err != nil {
		unixfd.Close(r)
		unixfd.Close(w)
		return -1, nil, os.NewSyscallError("fcntl", err)
	}
	// Almost every task fits into the pipe, and is written before the process
	// starts.
	n, err := syscall.Write(w, content)
	if n < 0 || err != nil {
		n = 0
	}
	if n == len(content) {
		unixfd.Close(w)
		return r, func() {}, nil
	}
	f := os.NewFile(uintptr(w), "pipe")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(f, bytes.NewReader(content[n:])) // EPIPE: the process did not read everything
		_ = f.Close()
	}()
	return r, func() {
		_ = f.SetWriteDeadline(time.Unix(1, 0))
		<-ended
	}, nil
}
