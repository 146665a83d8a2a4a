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
)

// pipeReader reads what a process writes to a pipe. If the process exits before start is called,
// finish reads all output of the process from the pipe. start starts a goroutine that reads while
// the process runs; finish then ends that goroutine.
type pipeReader struct {
	fd        int           // the reading end, until start or finish is called; then -1
	limit     int64         // maximum number of bytes to keep; further bytes are discarded
	lines     *lineSplitter // also receives the data; may be nil
	buf       []byte
	truncated bool // the process wrote more than limit bytes

	r       *os.File      // the reading end, after start
	done    chan struct{} // closed when the goroutine has returned
	lineErr error         // a panic in lines.emit; valid once done is closed, or after finish
}

// newPipeReader returns a pipeReader, and w, the writing end of its pipe, which the process
// inherits. The caller closes w. emit, which may be nil, receives the lines; see lineSplitter.
func newPipeReader(limit int64, emit func([]byte, bool)) (c *pipeReader, w int, err error) {
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
	c = &pipeReader{fd: r, limit: limit}
	if emit != nil {
		c.lines = &lineSplitter{emit: emit}
	}
	return c, w, nil
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

// add handles data that was read. After a panic in lines.emit, add discards all further lines. The
// output must still be read, because the process blocks when the pipe is full.
func (c *pipeReader) add(b []byte) {
	if c.lines != nil && c.lineErr == nil {
		if p := panics.Try(func() { c.lines.add(b) }); p != nil {
			c.lineErr = p.AsError()
		}
	}
	room := c.limit - int64(len(c.buf))
	if int64(len(b)) > room {
		c.truncated = true
		b = b[:max(room, 0)]
	}
	c.buf = append(c.buf, b...)
}

// flush passes on the last line if it does not end with a newline.
func (c *pipeReader) flush() {
	if c.lines == nil || c.lineErr != nil {
		return
	}
	if p := panics.Try(c.lines.flush); p != nil {
		c.lineErr = p.AsError()
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
