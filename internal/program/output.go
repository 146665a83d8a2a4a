package program

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

// The bounds of an output.
const (
	// outputSize is how much is kept while the reader is slow. What does not fit is
	// dropped.
	outputSize = 1 << 20
	// outputReserve is kept free for what must not be dropped: errors and the summary.
	outputReserve = 256 << 10
	// outputPatience is how long a write waits for the reader to take what was there
	// before. A reader that takes outputSize in this time misses nothing.
	outputPatience = time.Second
	// outputLinger is how long the end of the program waits for the reader.
	outputLinger = 2 * time.Second
)

// errDropped is returned for what an output has no room for.
var errDropped = errors.New("the reader is too slow: dropped")

// An output is standard error as the log writes to it. One goroutine writes what is
// collected here, so that a reader that has stopped reading, such as a pager or a stuck
// log driver, delays nothing and no task for long: what has no room is dropped,
// counted, and reported once the reader reads again.
//
// It is safe for concurrent use. close ends its goroutine, unless that is stuck in a
// write, which ends with the process.
type output struct {
	w io.Writer
	// note returns the line that reports how many lines were dropped.
	note func(dropped int64) []byte

	mu      sync.Mutex
	pending []byte        // to be written
	writing bool          // the goroutine is writing what it took
	takenAt time.Time     // when it took that
	room    chan struct{} // closed when it takes the next
	idle    chan struct{} // closed while there is nothing to write; else a channel to wait for
	dropped int64         // lines since the last note
	closed  bool

	wake  chan struct{}
	ended chan struct{}

	size, reserve int
	patience      time.Duration
}

func newOutput(w io.Writer) *output {
	o := &output{
		w: w, note: func(int64) []byte { return nil },
		room: make(chan struct{}), idle: make(chan struct{}), wake: make(chan struct{}, 1), ended: make(chan struct{}),
		size: outputSize, reserve: outputReserve, patience: outputPatience,
	}
	close(o.idle)
	go o.run()
	return o
}

// Write takes whole lines to be written soon. It waits while the buffer is full, at
// most as long as outputPatience after the last time that the reader was ready, and
// then returns errDropped.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	for len(o.pending) > 0 && len(o.pending)+len(p) > o.size && !o.closed {
		room, left := o.room, o.patience
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

// Keep takes what must not be dropped. It never waits, and drops only what the reserve
// has no room for.
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

// run writes until close.
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

// take returns what is to be written next, or nothing. before is what was written: its
// buffer is used again.
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
		before = nil // it was much, and need not be so again
	}
	o.pending = before[:0]
	o.writing, o.takenAt = true, time.Now()
	close(o.room)
	o.room = make(chan struct{})
	return text
}

// flush waits until all is written, at most for the given time and until a signal. It
// reports whether all was written.
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

// close flushes, and ends the goroutine. What is written later is discarded.
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

// writeAll writes p. An error loses the rest of it: there is no other place for it. A
// descriptor that another process has made non-blocking is waited for.
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

// switchWriter passes writes on to a writer that can be exchanged, such as a
// progress bar for the terminal that it is drawn on.
type switchWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// exchange sets what next returns; no write goes on while next runs.
func (s *switchWriter) exchange(next func() io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w = next()
}

func (s *switchWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if file, ok := s.w.(*os.File); ok {
		writeAll(file, p)
		return len(p), nil
	}
	return s.w.Write(p)
}
