// Package batch gathers what is asked for one by one, such as acknowledgments, into
// the batches in which a cloud provider takes it.
//
// Each caller waits for what came of its own item, and for no batch but the one
// that has it.
package batch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/retry"
)

// ErrClosed says that the Batcher was closed before.
var ErrClosed = errors.New("batch: closed")

// Options say how items are gathered.
type Options[T any] struct {
	// Most is how many items a batch has at most. Default 10.
	MaxItems int
	// MostBytes is how much Size may come to in a batch, if Size is set. An item that
	// is larger goes alone.
	MaxBytes int
	// Size is the size of an item in bytes.
	Size func(T) int
	// Linger is how long the first item of a batch waits for others. Default 10 ms.
	Linger time.Duration
	// Parallel is how many batches are sent at once; others wait. Default 8.
	MaxConcurrent int
}

// A Batcher gathers items. It has no goroutine while there are none.
type Batcher[T any] struct {
	opts   Options[T]
	send   func(ctx context.Context, items []T) []error
	ctx    context.Context
	cancel context.CancelFunc
	sem    chan struct{}

	mu      sync.Mutex
	closed  bool
	pending *pendingBatch[T] // to which items are added; nil: none is begun
	sending sync.WaitGroup
}

// gathering is one batch.
type pendingBatch[T any] struct {
	items []T
	bytes int
	timer *time.Timer
	done  chan struct{} // closed when errs is valid
	errs  []error
}

// New returns a Batcher. send sends a batch and returns one error per item, in the order of
// items; a nil slice means that all succeeded. It is called from several goroutines at once
// and must return when its ctx is done. If send panics, every item of the batch gets the
// panic as its error.
func New[T any](opts Options[T], send func(ctx context.Context, items []T) []error) *Batcher[T] {
	if opts.MaxItems <= 0 {
		opts.MaxItems = 10
	}
	if opts.Linger <= 0 {
		opts.Linger = 10 * time.Millisecond
	}
	if opts.MaxConcurrent <= 0 {
		opts.MaxConcurrent = 8
	}
	b := &Batcher[T]{opts: opts, send: send, sem: make(chan struct{}, opts.MaxConcurrent)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Do has item sent with others, and returns what came of it. When ctx ends it
// returns ctx's error; the item may be sent all the same.
func (b *Batcher[T]) Do(ctx context.Context, item T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.Put(item).Wait(ctx)
}

// A Pending is an item that is on its way.
type Pending[T any] struct {
	batch *pendingBatch[T] // nil: it is not; the Batcher was closed
	i     int
}

// Wait returns what came of the item. When ctx ends it returns ctx's error; the item
// may be sent all the same.
func (p Pending[T]) Wait(ctx context.Context) error {
	if p.batch == nil {
		return ErrClosed
	}
	select {
	case <-p.batch.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.batch.errs == nil {
		return nil
	}
	return p.batch.errs[p.i]
}

// Put has item sent with others and does not wait: for whoever has several.
func (b *Batcher[T]) Put(item T) Pending[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return Pending[T]{}
	}
	size := 0
	if b.opts.Size != nil {
		size = b.opts.Size(item)
	}
	if b.pending != nil && b.opts.Size != nil && b.pending.bytes+size > b.opts.MaxBytes {
		b.dispatch()
	}
	p := b.pending
	if p == nil {
		p = &pendingBatch[T]{done: make(chan struct{})}
		p.timer = time.AfterFunc(b.opts.Linger, func() { b.linger(p) })
		b.pending = p
	}
	i := len(p.items)
	p.items = append(p.items, item)
	p.bytes += size
	if len(p.items) == b.opts.MaxItems || b.opts.Size != nil && p.bytes >= b.opts.MaxBytes {
		b.dispatch()
	}
	return Pending[T]{p, i}
}

// linger sends a batch that nobody has sent.
func (b *Batcher[T]) linger(p *pendingBatch[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending == p {
		b.dispatch()
	}
}

// dispatch has the batch at hand sent. The caller holds mu.
func (b *Batcher[T]) dispatch() {
	p := b.pending
	b.pending = nil
	p.timer.Stop()
	b.sending.Go(func() {
		b.sem <- struct{}{}
		defer func() { <-b.sem }()
		defer close(p.done)
		if err := retry.Guard(func() error { p.errs = b.send(b.ctx, p.items); return nil }); err != nil {
			p.errs = make([]error, len(p.items))
			for i := range p.errs {
				p.errs[i] = err
			}
		}
	})
}

// Close sends what is there and returns once nothing is under way. When ctx ends,
// so does the ctx of what is being sent. Do then fails.
func (b *Batcher[T]) Close(ctx context.Context) {
	b.mu.Lock()
	b.closed = true
	if b.pending != nil {
		b.dispatch()
	}
	b.mu.Unlock()
	stop := context.AfterFunc(ctx, b.cancel)
	b.sending.Wait()
	stop()
	b.cancel()
}
