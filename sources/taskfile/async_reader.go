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

// A feed runs a scan in a goroutine of its own, because reading may block for
// longer than the context of a Receive lasts. The goroutine reads only when
// asked, and hands over what it has before each read that may block.
type asyncReader struct {
	scan     *scan
	requests chan int   // how many tasks are wanted; one question at a time
	batches  chan batch // its answer; has room for it, so that answering never blocks
	stop     chan struct{}
	done     chan struct{} // closed when the goroutine has ended
	src      interruptible

	requested bool // Receive's: a question is open

	// The goroutine's own.
	want     int                  // 0 while no question is open
	pending  []*pipeline.Delivery // never more than want, or one if that is 0
	position int64                // after the last of them
}

type batch struct {
	deliveries []*pipeline.Delivery
	err        error
	position   int64
}

// startFeed starts the goroutine; close ends it. A nil src means that path is
// to be opened, which blocks for a named pipe.
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

// receive asks for tasks unless an earlier call did, and waits for the answer.
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
			defer func() { _ = file.Close() }() // it was only read from
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

// startNotice starts a timer that calls onWait if path is a FIFO, and returns a function that ends it.
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

// fill reads as many tasks as were asked for, up to the first error.
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

// guarded calls read. A panic in it, as of a decompressor that meets a damaged file, is an
// error of the file.
func (f *asyncReader) guarded(read func()) {
	defer func() {
		if v := recover(); v != nil {
			f.scan.err = fmt.Errorf("task file: %w", &pipeline.PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	read()
}

// wait waits for a question. It returns false when the feed is closed.
func (f *asyncReader) wait() bool {
	select {
	case f.want = <-f.requests:
		return true
	case <-f.stop:
		return false
	}
}

// handOver answers with what there is, before a read that may block.
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

// close ends the goroutine, and waits for it unless it is in a read that
// cannot be ended.
func (f *asyncReader) close(ctx context.Context) error {
	close(f.stop)
	if !f.src.interrupt() {
		return nil
	}
	select {
	case <-f.done:
		return f.src.restore()
	case <-ctx.Done():
		return fmt.Errorf("close task file: a read does not end: %w", ctx.Err())
	}
}

// guarded is a reader whose blocked Read another goroutine can end.
type interruptible struct {
	mu       sync.Mutex // guards the following
	src      io.Reader  // nil until it has been opened
	opened   bool       // opened here
	deadline bool       // set by interrupt

	reading, closed atomic.Bool
}

type deadliner interface{ SetReadDeadline(time.Time) error }

// open opens a file that need not be regular. For a named pipe it waits for
// someone to open it for writing.
func (g *interruptible) open(path string) (*os.File, error) {
	g.reading.Store(true)
	defer g.reading.Store(false)
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
	// Either this sees that the reader is closed, or interrupt sees that this
	// is reading.
	g.reading.Store(true)
	defer g.reading.Store(false)
	if g.closed.Load() {
		return 0, errClosed
	}
	return g.src.Read(p)
}

// interrupt ends a blocked Read, and all Reads to come. It returns false if
// there may be one that it could not end.
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

// restore takes back what interrupt did to a reader that is not ours.
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
