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

// pipeReader reads what a process writes to a pipe. If the process exits before start is called,
// finish reads all output of the process from the pipe. start starts a goroutine that reads while
// the process runs; finish then ends that goroutine.
type pipeReader struct {
	fd        int                               // the reading end, until start or finish is called; then -1
	limit     int64                             // maximum number of bytes to keep; further bytes are discarded
	onLine    func(line []byte, continued bool) // receives each line; if it is not nil, nothing is kept
	buf       []byte
	truncated bool // the process wrote more than limit bytes
	continued bool // onLine has received the beginning of the current line

	r       *os.File      // the reading end, after start
	done    chan struct{} // closed when the goroutine has returned
	lineErr error         // a panic in onLine; valid once done is closed, or after finish
}

// maxLine is the maximum length of a piece of a line, in bytes. onLine receives a longer line in
// several pieces. A piece can be up to three bytes shorter, to end between two characters.
const maxLine = 64 << 10

// newPipeReader returns a pipeReader, and w, the writing end of its pipe, which the process
// inherits. The caller closes w.
func newPipeReader(limit int64, line func([]byte, bool)) (c *pipeReader, w int, err error) {
	r, w, err := unixfd.Pipe()
	if err != nil {
		return nil, -1, err
	}
	// Programs expect a pipe that blocks, so only the reading end is non-blocking.
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

// readAvailable reads what the pipe contains, and does not wait for more. It reads at most the
// capacity of the pipe, because a grandchild may still hold the writing end open and never stop
// writing.
func (c *pipeReader) readAvailable(fd int, chunk []byte) {
	const capacity = 1 << 20 // default of /proc/sys/fs/pipe-max-size; see pipe(7)
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

// add handles data that was read. It passes the lines to onLine. If onLine is nil, it keeps the
// data in buf.
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
			// One byte more than maxLine shows whether a character ends at maxLine.
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

// emitLine calls onLine with a line. After a panic in onLine, emitLine discards all further lines.
// The output must still be read, because the process blocks when the pipe is full.
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

// flush passes the last line to onLine if it does not end with a newline.
func (c *pipeReader) flush() {
	if c.onLine != nil && len(c.buf) > 0 {
		c.flushLine()
	}
}

// finish reads what the pipe still contains, and closes the pipe. It is called after the exit of
// the process. Further calls have no effect.
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

// chunkPool holds the read buffers of finish.
var chunkPool = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// stdinPipe returns the reading end r of a pipe from which a process can read content. If content
// does not fit into the pipe, a goroutine writes the rest. The caller closes r when the process has
// started, and calls finish when the process has exited.
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
	// Most tasks fit into the pipe. They are written here, and need no goroutine.
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
		// An error means that the process has not read everything, which is allowed.
		_, _ = io.Copy(f, bytes.NewReader(content[n:]))
		_ = f.Close()
	}()
	return r, func() {
		_ = f.SetWriteDeadline(time.Unix(1, 0))
		<-ended
	}, nil
}
