// Package batch collects single operations, such as acknowledgments, into batches, because a cloud
// provider accepts several operations in one request.
//
// A caller passes one item, waits until the batch with this item has been sent, and gets the result
// of this item.
package batch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/retry"
)

// ErrClosed is returned for an item that is added after Close.
var ErrClosed = errors.New("batch: the item was added after Close")

// Options configures a Batcher. The zero value has defaults.
type Options[T any] struct {
	// MaxItems is the maximum number of items per batch. Defaults to 10.
	MaxItems int
	// MaxBytes is the maximum total size of the items in a batch. An item that is larger than
	// MaxBytes is sent in a batch of its own. MaxBytes is used only if Size is set.
	MaxBytes int
	// Size returns the size of an item in bytes. Defaults to nil, which disables MaxBytes.
	Size func(T) int
	// Linger is how long a batch waits for more items after its first item. Defaults to 10 ms.
	Linger time.Duration
	// MaxConcurrent is the maximum number of batches that are sent at the same time. Defaults to 8.
	MaxConcurrent int
}

// A Batcher collects items into batches. It runs no goroutines while it has no items. It is safe
// for concurrent use.
type Batcher[T any] struct {
	opts   Options[T]
	send   func(ctx context.Context, items []T) []error
	ctx    context.Context
	cancel context.CancelFunc
	sem    chan struct{}

	mu      sync.Mutex
	closed  bool
	pending *pendingBatch[T] // the batch to which items are added; may be nil
	sending sync.WaitGroup
}

// pendingBatch is a batch that is being collected or sent.
type pendingBatch[T any] struct {
	items []T
	bytes int
	timer *time.Timer
	done  chan struct{} // closed when the batch has been sent and errs is valid
	errs  []error
}

// New returns a Batcher that sends batches with the function send.
//
// send returns one error per item, in the order of items. A nil slice means that all items were
// sent. send may be called concurrently, and must return when its ctx is done. If send panics,
// every item of the batch gets the panic as its error.
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

// Do adds item to a batch, waits until the batch has been sent, and returns the error of the item.
// If ctx is done first, Do returns ctx's error, but the item may still be sent.
func (b *Batcher[T]) Do(ctx context.Context, item T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.Put(item).Wait(ctx)
}

// A Pending is an item that Put has added to a batch.
type Pending[T any] struct {
	batch *pendingBatch[T] // nil if the Batcher was closed
	i     int
}

// Wait waits until the item has been sent, and returns the error of the item. If ctx is done first,
// Wait returns ctx's error, but the item may still be sent.
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

// Put adds item to a batch and does not wait. Use it to add several items before waiting for the
// first. If the Batcher is closed, Wait of the returned Pending returns ErrClosed.
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

// linger sends the batch p because its linger time is over. It does nothing if p is already being
// sent.
func (b *Batcher[T]) linger(p *pendingBatch[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending == p {
		b.dispatch()
	}
}

// dispatch starts to send the pending batch. The caller holds b.mu.
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

// Close sends the pending batch, and waits until all batches have been sent. If ctx is done first,
// Close cancels the contexts of the sends that have not returned.
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
