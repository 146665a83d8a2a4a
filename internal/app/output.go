package app

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

// Limits of an output.
const (
	// outputSize is the size of the buffer in bytes. Lines that do not fit are dropped.
	outputSize = 1 << 20
	// outputReserve is additional space for lines that must not be dropped: warnings,
	// errors and the summary.
	outputReserve = 256 << 10
	// outputMaxWait is how long a Write to a full buffer waits. A reader that reads outputSize
	// bytes in this time loses no line.
	outputMaxWait = time.Second
	// outputLinger is how long the program, at its end, waits for the reader.
	outputLinger = 2 * time.Second
)

// errDropped is returned by a Write to a full buffer.
var errDropped = errors.New("line dropped: the reader is too slow")

// An output buffers what is written to standard error, because a reader that has stopped reading,
// such as a pager or a stuck log driver, must not block the run. One goroutine writes the buffer.
// Lines that do not fit are dropped and counted. The number is reported when the reader reads
// again.
//
// An output is safe for concurrent use. close ends its goroutine. If the goroutine is blocked in a
// write, it remains until the process exits.
type output struct {
	w io.Writer
	// note returns the line that reports how many lines were dropped.
	note func(dropped int64) []byte

	mu      sync.Mutex
	pending []byte        // not yet taken by the goroutine
	writing bool          // the goroutine is writing
	takenAt time.Time     // when the goroutine last took the pending bytes
	room    chan struct{} // closed when the goroutine takes the pending bytes
	idle    chan struct{} // closed while there is nothing to write
	dropped int64         // lines dropped since the last note
	closed  bool

	wake  chan struct{}
	ended chan struct{}

	size, reserve int
	maxWait       time.Duration
}

func newOutput(w io.Writer) *output {
	o := &output{
		w: w, note: func(int64) []byte { return nil },
		room: make(chan struct{}), idle: make(chan struct{}), wake: make(chan struct{}, 1), ended: make(chan struct{}),
		size: outputSize, reserve: outputReserve, maxWait: outputMaxWait,
	}
	close(o.idle)
	go o.run()
	return o
}

// Write adds whole lines to the buffer. If the buffer is full, Write waits for space until
// outputMaxWait has passed since the goroutine last took the buffer. If there is still no space, it
// returns errDropped.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	for len(o.pending) > 0 && len(o.pending)+len(p) > o.size && !o.closed {
		room, left := o.room, o.maxWait
		if o.writing {
			left -= time.Since(o.takenAt)
		}
		if left <= 0 {
			o.drop(p)
			o.mu.Unlock()
			return 0, errDropped
		}
		o.mu.Unlock()
		timer := time.NewTimer(left)
		select {
		case <-room:
		case <-timer.C:
		}
		timer.Stop()
		o.mu.Lock()
	}
	o.add(p)
	o.mu.Unlock()
	return len(p), nil
}

// Keep adds lines that should not be dropped, and does not block. It drops the lines only if the
// reserve is also full.
func (o *output) Keep(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.pending) > 0 && len(o.pending)+len(p) > o.size+o.reserve {
		o.drop(p)
		return
	}
	o.add(p)
}

func (o *output) add(p []byte) {
	if len(p) == 0 || o.closed {
		return
	}
	if len(o.pending) == 0 && !o.writing {
		o.idle = make(chan struct{})
	}
	o.pending = append(o.pending, p...)
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *output) drop(p []byte) { o.dropped += max(int64(bytes.Count(p, []byte{'\n'})), 1) }

// run writes the pending bytes until close is called.
func (o *output) run() {
	defer close(o.ended)
	var text []byte
	for range o.wake {
		for {
			text = o.take(text)
			if len(text) == 0 {
				break
			}
			writeAll(o.w, text)
		}
	}
}

// take returns the bytes to write next, or nil if there are none. before is the slice that was
// written last; take reuses its memory.
func (o *output) take(before []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.pending) == 0 {
		if o.writing {
			o.writing = false
			close(o.idle)
		}
		return nil
	}
	text := o.pending
	if o.dropped > 0 {
		text = append(text, o.note(o.dropped)...)
		o.dropped = 0
	}
	if cap(before) > outputSize/4 {
		before = nil // do not retain a large buffer
	}
	o.pending = before[:0]
	o.writing, o.takenAt = true, time.Now()
	close(o.room)
	o.room = make(chan struct{})
	return text
}

// flush waits until everything is written, the duration wait has passed, or a signal arrives. It
// reports whether everything was written.
func (o *output) flush(wait time.Duration, signals <-chan os.Signal) bool {
	o.mu.Lock()
	idle := o.idle
	o.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-idle:
		return true
	case <-timer.C:
	case <-signals:
	}
	return false
}

// close flushes the buffer and ends the goroutine. Later writes are discarded.
func (o *output) close(wait time.Duration, signals <-chan os.Signal) {
	flushed := o.flush(wait, signals)
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		close(o.wake)
	}
	o.mu.Unlock()
	if flushed {
		<-o.ended
	}
}

// writeAll writes p. After an error, it discards the rest of p, because the error cannot be
// reported anywhere else. If another process has made the descriptor non-blocking, writeAll waits
// until the descriptor is writable.
func writeAll(w io.Writer, p []byte) {
	for len(p) > 0 {
		n, err := w.Write(p)
		p = p[min(max(n, 0), len(p)):]
		if err == nil {
			if n == 0 {
				return
			}
			continue
		}
		file, ok := w.(*os.File)
		if !ok || !errors.Is(err, syscall.EAGAIN) {
			return
		}
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(file.Fd()), Events: unix.POLLOUT}}, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// A swapWriter passes its input to a writer that can be replaced: the terminal, or the progress bar
// that draws on the terminal.
type swapWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Swap calls next and replaces the writer by its result. Writes block while next runs.
func (s *swapWriter) Swap(next func() io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w = next()
}

func (s *swapWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if file, ok := s.w.(*os.File); ok {
		writeAll(file, p)
		return len(p), nil
	}
	return s.w.Write(p)
}
