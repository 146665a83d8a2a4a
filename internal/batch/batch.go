// Package batch collects single operations, such as acknowledgments, into the batches that a
// cloud provider accepts.
//
// Each caller waits only for the batch that has its item, and gets the result of its item.
package batch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/retry"
)

// ErrClosed is returned for an item that is added after Close.
var ErrClosed = errors.New("batch: closed")

// Options configures a Batcher. The zero value has defaults.
type Options[T any] struct {
	// MaxItems is the maximum number of items per batch. Defaults to 10.
	MaxItems int
	// MaxBytes is the maximum sum of the sizes in a batch. It is used only if Size is set.
	// A larger item is sent in a batch of its own.
	MaxBytes int
	// Size returns the size of an item in bytes. Defaults to nil, which disables MaxBytes.
	Size func(T) int
	// Linger is how long the first item of a batch waits for others. Defaults to 10ms.
	Linger time.Duration
	// MaxConcurrent is the maximum number of batches that are sent concurrently. Defaults
	// to 8.
	MaxConcurrent int
}

// A Batcher collects items into batches. It has no goroutines while it has no items. It is
// safe for concurrent use.
type Batcher[T any] struct {
	opts   Options[T]
	send   func(ctx context.Context, items []T) []error
	ctx    context.Context
	cancel context.CancelFunc
	sem    chan struct{}

	mu      sync.Mutex
	closed  bool
	pending *pendingBatch[T] // the batch that items are added to; may be nil
	sending sync.WaitGroup
}

// pendingBatch is a batch that is being collected or sent.
type pendingBatch[T any] struct {
	items []T
	bytes int
	timer *time.Timer
	done  chan struct{} // closed when errs is valid
	errs  []error
}

// New returns a Batcher. send sends a batch and returns one error per item, in the order of items.
// A nil slice means that all items were sent. Several goroutines call send concurrently, and send
// must return when its ctx is done. If send panics, the panic is the error of every item in the
// batch.
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

// Do adds item to a batch, waits until the batch has been sent, and returns the item's
// error. If ctx ends first, Do returns the error of ctx; the item may still be sent.
func (b *Batcher[T]) Do(ctx context.Context, item T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.Put(item).Wait(ctx)
}

// A Pending is an item that was added to a batch by Put.
type Pending[T any] struct {
	batch *pendingBatch[T] // nil if the Batcher was closed
	i     int
}

// Wait waits until the item has been sent, and returns its error. If ctx ends first, Wait
// returns the error of ctx; the item may still be sent.
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

// Put adds item to a batch without waiting, so that a caller can add several items. After
// Close, Wait returns ErrClosed for the item.
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

// linger sends the batch p when its linger time is over, unless it has been sent already.
func (b *Batcher[T]) linger(p *pendingBatch[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending == p {
		b.dispatch()
	}
}

// dispatch starts to send the pending batch. The caller holds mu.
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

// Close sends the pending batch, and returns once all batches have been sent. If ctx ends
// first, the contexts of the open sends are canceled.
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
