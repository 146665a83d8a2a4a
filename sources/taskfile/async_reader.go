package taskfile

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// An asyncReader runs a scan in its own goroutine, because a read can block after the context of
// Receive has ended. The goroutine reads only on request. Before a read that may block, the
// goroutine responds with the tasks that it has already read.
type asyncReader struct {
	scan     *scan
	requests chan int   // number of requested tasks; at most one request is open
	batches  chan batch // the responses; buffered, so that sending never blocks
	stop     chan struct{}
	done     chan struct{} // closed when the goroutine has ended
	src      interruptible

	requested bool // a request is open; used by receive only

	// The fields below belong to the goroutine.
	want     int                  // number of requested tasks; 0 if no request is open
	pending  []*pipeline.Delivery // at most want deliveries; at most 1 after handOver has set want to 0
	position int64                // position in the file after the last entry that was read
}

type batch struct {
	deliveries []*pipeline.Delivery
	err        error
	position   int64
}

// startReader starts the goroutine, which close stops. If src is nil, the goroutine opens path.
// Opening a named pipe blocks until a process opens the pipe for writing.
func startReader(s *scan, src io.Reader, path string) *asyncReader {
	f := &asyncReader{
		scan:     s,
		requests: make(chan int, 1),
		batches:  make(chan batch, 1),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	f.src.src = src
	go func() {
		defer close(f.done)
		f.run(src, path)
	}()
	return f
}

// receive waits for the next batch of tasks. If the request of an earlier call has not been
// answered, receive waits for that answer instead of sending another request.
func (f *asyncReader) receive(ctx context.Context, limit int) (batch, error) {
	if !f.requested {
		f.requests <- limit
		f.requested = true
	}
	select {
	case b := <-f.batches:
		f.requested = false
		return b, nil
	case <-f.done:
		return batch{}, errClosed
	case <-ctx.Done():
		return batch{}, ctx.Err()
	}
}

func (f *asyncReader) run(src io.Reader, path string) {
	if !f.wait() {
		return
	}
	if src == nil {
		stopNotice := f.startNotice(path)
		file, err := f.src.open(path)
		stopNotice()
		if err != nil {
			f.scan.err = openError(path, err)
		} else {
			defer func() { _ = file.Close() }() // opened for reading only
		}
	}
	if f.scan.err == nil {
		f.guarded(func() { f.scan.begin(&f.src, path, f.handOver) })
	}
	defer f.scan.close()
	for {
		f.guarded(f.fill)
		if f.want > 0 {
			f.answer()
		}
		if !f.wait() {
			return
		}
	}
}

// startNotice starts a timer that calls onWait, if path is a FIFO. It returns a function that stops
// the timer.
func (f *asyncReader) startNotice(path string) (stop func()) {
	info, err := os.Stat(path)
	if f.scan.onWait == nil || err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return func() {}
	}
	ended := make(chan struct{})
	timer := time.AfterFunc(f.scan.waitNotice, func() {
		defer close(ended)
		if !f.src.closed.Load() {
			f.scan.onWait()
		}
	})
	return func() {
		if !timer.Stop() {
			<-ended
		}
	}
}

// fill reads the requested number of tasks, up to the first error.
func (f *asyncReader) fill() {
	for f.scan.err == nil && len(f.pending) < f.want {
		delivery, err := f.scan.step()
		if delivery != nil {
			f.pending = append(f.pending, delivery)
		}
		if err == nil {
			f.position = f.scan.position()
		}
	}
}

// guarded calls read. It converts a panic in read to an error of the file. A decompressor may panic
// when it reads a damaged file.
func (f *asyncReader) guarded(read func()) {
	defer func() {
		if v := recover(); v != nil {
			f.scan.err = fmt.Errorf("task file: %w", &pipeline.PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	read()
}

// wait waits for a request. It returns false if close has been called.
func (f *asyncReader) wait() bool {
	select {
	case f.want = <-f.requests:
		return true
	case <-f.stop:
		return false
	}
}

// handOver responds with the tasks that have been read. It is called before a read that may block.
func (f *asyncReader) handOver() {
	if len(f.pending) > 0 && f.want > 0 {
		f.answer()
	}
}

func (f *asyncReader) answer() {
	b := batch{deliveries: f.pending, err: f.scan.err, position: f.position}
	if b.err != nil {
		b.position = f.scan.position()
	}
	f.pending, f.want = nil, 0
	f.batches <- b
}

// close stops the goroutine, and waits for its end. It does not wait if the goroutine is blocked in
// a read that cannot be ended.
func (f *asyncReader) close(ctx context.Context) error {
	close(f.stop)
	if !f.src.interrupt() {
		return nil
	}
	select {
	case <-f.done:
		return f.src.restore()
	case <-ctx.Done():
		return fmt.Errorf("close task file: a read of the file did not return in time: %w", ctx.Err())
	}
}

// interruptible is a reader whose blocked Read can be ended from another goroutine.
type interruptible struct {
	mu       sync.Mutex // guards the following
	src      io.Reader  // nil until the file is open
	opened   bool       // open has opened src
	deadline bool       // interrupt has set a read deadline

	reading, closed atomic.Bool
}

type deadliner interface{ SetReadDeadline(time.Time) error }

// open opens a file of any type. For a named pipe, it blocks until a process opens the pipe for
// writing.
func (g *interruptible) open(path string) (*os.File, error) {
	g.reading.Store(true) // before closed is loaded, as in Read
	defer g.reading.Store(false)
	if g.closed.Load() { // interrupt did not see reading, so close waits for the goroutine
		return nil, errClosed
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.src, g.opened = file, true
	return file, nil
}

func (g *interruptible) Read(p []byte) (int, error) {
	// Store before Load: either Read sees closed, or interrupt sees reading.
	g.reading.Store(true)
	defer g.reading.Store(false)
	if g.closed.Load() {
		return 0, errClosed
	}
	return g.src.Read(p)
}

// interrupt ends a blocked Read, and makes later Reads fail. It returns false if a Read may
// still be blocked.
func (g *interruptible) interrupt() bool {
	g.closed.Store(true)
	if !g.reading.Load() {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch src := g.src.(type) {
	case deadliner:
		g.deadline = src.SetReadDeadline(time.Unix(1, 0)) == nil
		return g.deadline
	case io.Closer:
		return src.Close() == nil
	default:
		return false
	}
}

// restore removes the read deadline that interrupt has set, if the reader belongs to the caller of
// Open.
func (g *interruptible) restore() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	d, ok := g.src.(deadliner)
	if !ok || !g.deadline || g.opened {
		return nil
	}
	if err := d.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("close task file: %w", err)
	}
	return nil
}
