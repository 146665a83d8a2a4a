package cloudqueue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/pipeline"
)

// Load sends the tasks of a source to a queue. It sends several batches concurrently, so the order
// of the tasks in the queue can differ slightly from their order in the source. Create a Load with
// NewLoad, then call Run.
type Load struct {
	loader Loader
	source pipeline.Source
	limit  int64 // negative: no limit

	mu          sync.Mutex
	sourceDone  bool           // the source is exhausted, or limit tasks were read
	interrupted bool           // some tasks were read but not sent
	sent        int64          // tasks that have been passed to the loader
	loaded      int64          // the first loaded tasks of the source are all in the queue
	outOfOrder  map[int64]bool // indexes of the tasks that are in the queue although an earlier task is not
	failure     error          // the first error of a send
	failed      chan struct{}  // closed when failure is set
}

// maxConcurrentSends is the maximum number of tasks that are being sent at the same time: 16 SQS
// batches.
const maxConcurrentSends = 160

// NewLoad returns a Load of at most limit tasks. A negative limit means no limit.
func NewLoad(loader Loader, source pipeline.Source, limit int64) *Load {
	return &Load{loader: loader, source: source, limit: limit, outOfOrder: map[int64]bool{}, failed: make(chan struct{})}
}

// Loaded returns the largest n for which the first n tasks of the source are all in the queue. A
// later load can continue after these tasks. The number is exact when Run has returned.
func (l *Load) Loaded() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.loaded }

// OutOfOrder returns the number of tasks that are in the queue although an earlier task is not.
// Loaded does not include them. The number is exact when Run has returned.
func (l *Load) OutOfOrder() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.outOfOrder) }

// Exhausted reports whether all tasks were read and sent. Call it after Run has returned nil.
func (l *Load) Exhausted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sourceDone && !l.interrupted
}

func (l *Load) markSourceDone() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sourceDone = true
}

// ReadCount returns the number of tasks that have been read from the source.
func (l *Load) ReadCount() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.sent }

// sendGrace is how long Run waits for unfinished requests after its context has ended. CloseTimeout
// is how long Loader.Close may take after Run.
const (
	sendGrace    = 5 * time.Second
	CloseTimeout = time.Second
)

// Run sends the tasks until the source is exhausted, ctx ends, or a task cannot be sent. Run then
// waits for the unfinished requests, because Loaded must be exact when Run returns. If ctx has ended,
// Run waits for at most sendGrace.
func (l *Load) Run(ctx context.Context) error {
	sends, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(sendGrace, func() { cancel(context.Cause(ctx)) }) })
	defer stop()
	sem := make(chan struct{}, maxConcurrentSends)
	var all sync.WaitGroup
	err := l.read(ctx, func(n int64, id string, send func(context.Context) error) bool {
		select {
		case sem <- struct{}{}:
		case <-ctx.Done():
			return false
		case <-l.failed:
			return false
		}
		all.Go(func() {
			defer func() { <-sem }()
			switch err := guarded(func() error { return send(sends) }); {
			case err != nil && sends.Err() != nil: // canceled because ctx ended
				l.mu.Lock()
				l.interrupted = true
				l.mu.Unlock()
			case err != nil:
				l.fail(fmt.Errorf("task %d, %q: %w", n+1, id, err))
			default:
				l.markLoaded(n)
			}
		})
		return true
	})
	all.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.failure, err)
}

// read reads the tasks, and calls send for each task until send returns false. send gets the index of
// the task, from 0, its ID, and a function that sends the task to the queue. send must not block
// after ctx has ended.
func (l *Load) read(ctx context.Context, send func(n int64, id string, send func(context.Context) error) bool) error {
	const batchSize = 10
	for n := int64(0); ; {
		want := int64(batchSize)
		if l.limit >= 0 {
			want = min(want, l.limit-n)
		}
		if want == 0 {
			l.markSourceDone()
			return nil
		}
		ds, err := l.source.Receive(ctx, int(want))
		for i, d := range ds {
			prepared, prepareErr := l.loader.Prepare(d.Task)
			if prepareErr != nil {
				letExpire(ds[i:])
				return fmt.Errorf("task %d, %.100q: %w", n+1, d.Task.ID, prepareErr)
			}
			if !send(n, d.Task.ID, prepared) {
				letExpire(ds[i:])
				return nil
			}
			letExpire(ds[i : i+1]) // the source is a file, which needs no acknowledgment
			n++
			l.mu.Lock()
			l.sent = n
			l.mu.Unlock()
		}
		switch {
		case errors.Is(err, io.EOF):
			l.markSourceDone()
			return nil
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
	}
}

// guarded calls t. If t panics, guarded returns the panic as an error.
func guarded(t func() error) (err error) {
	if p := panics.Try(func() { err = t() }); p != nil {
		return p.AsError()
	}
	return err
}

func letExpire(ds []*pipeline.Delivery) {
	for _, d := range ds {
		_ = d.LetExpire()
	}
}

func (l *Load) markLoaded(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outOfOrder[n] = true
	for l.outOfOrder[l.loaded] {
		delete(l.outOfOrder, l.loaded)
		l.loaded++
	}
}

func (l *Load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		l.failure = err
		close(l.failed)
	}
}
