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

// A Load sends the tasks of a source to a queue, in their order as far as it can be
// told: several batches are on their way at once. Make it with NewLoad and call Run.
type Load struct {
	loader Loader
	source pipeline.Source
	limit  int64 // < 0: none

	mu          sync.Mutex
	sourceDone  bool           // there was nothing more to read
	interrupted bool           // some tasks were read but not sent
	sent        int64          // tasks that have been given to the loader
	loaded      int64          // tasks that are in the queue, without a gap
	outOfOrder  map[int64]bool // those behind the first gap
	failure     error          // the first
	failed      chan struct{}  // closed with it
}

// loadAtOnce is how many tasks are on their way at once.
const maxConcurrentSends = 160

// NewLoad returns a load of no more than limit tasks; below 0 is no limit.
func NewLoad(loader Loader, source pipeline.Source, limit int64) *Load {
	return &Load{loader: loader, source: source, limit: limit, outOfOrder: map[int64]bool{}, failed: make(chan struct{})}
}

// In is how many tasks are in the queue, from the first on without a gap, and Beyond how
// many more of those that come behind the first that is not, once Run has ended.
func (l *Load) Loaded() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.loaded }

// Beyond is of tasks that are in the queue though one before them is not.
func (l *Load) OutOfOrder() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.outOfOrder) }

// ReadAll reports whether all tasks were read and sent. Call it after Run has returned nil.
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

// Read is how many tasks have been read of the source.
func (l *Load) ReadCount() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.sent }

// lastSends limits how long Run waits for open requests after its ctx has ended, and
// CloseTimeout how long Loader.Close may then take.
const (
	sendGrace    = 5 * time.Second
	CloseTimeout = time.Second
)

// Run sends the tasks until there are no more, ctx ends, or one cannot be sent. What is
// on its way then is waited for, so that In is exact.
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
			case err != nil && sends.Err() != nil: // canceled by the end of ctx
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

// read hands over each task with its number, from 0, until send reports false.
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
			letExpire(ds[i : i+1]) // a file's: nobody else has it
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

// guarded calls f, and returns a panic in f as an error.
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
