package pipeline

import (
	"context"
	"time"
)

// Map adds a stage that calls f for each item and passes the result on. f must return an item with
// the same delivery. It must not block, and it is called from one goroutine at a time.
//
// If the next stage is added with ToBatches, f is called on the goroutine of that stage, and the
// Map needs no goroutine and no channel of its own. Before any other stage, the Map has its own
// goroutine and channel.
func Map[In, Out Item](in Flow[In], name string, f func(In) Out) Flow[Out] {
	require(f != nil, "Map", name, "function")
	in.use()
	r := in.run
	fused := &stageState{name: name, position: in.output.stage.position}
	out := newFlow[Out](r, fused, in.queue, in.stop)
	out.batches = func() Batches[Out] {
		source := in.batches()
		return Batches[Out]{
			wait: func(stop <-chan struct{}, expired <-chan time.Time) (out Out, ok bool) {
				item, ok := source.wait(stop, expired)
				if ok {
					out = f(item)
				}
				return out, ok
			},
			poll: func() (out Out, ok bool) {
				item, ok := source.poll()
				if ok {
					out = f(item)
				}
				return out, ok
			},
		}
	}
	out.channel = func() Flow[Out] {
		return via(in.withChannel(), name, func(ctx context.Context, in <-chan In, out Output[Out]) error {
			for item := range in {
				if err := out.Send(ctx, f(item)); err != nil {
					return nil // the run is stopping; Send has released the item
				}
			}
			return nil
		})
	}
	return out
}

// BatchConsumer is a last stage that receives several items at a time. It returns in the same cases
// as a Stage, and settles the items that it receives.
type BatchConsumer[In Item] func(ctx context.Context, in Batches[In]) error

// Batches is the input of a BatchConsumer.
type Batches[In Item] struct {
	// wait waits for the next item. It returns false if there are no more items, or if stop or
	// expired becomes ready first.
	wait func(stop <-chan struct{}, expired <-chan time.Time) (In, bool)
	// poll returns the next item if there is one now.
	poll func() (In, bool)
}

// NewBatches returns the Batches of a channel, to call a BatchConsumer in a test, without a Run.
func NewBatches[In Item](in <-chan In) Batches[In] {
	return Batches[In]{
		wait: func(stop <-chan struct{}, expired <-chan time.Time) (item In, ok bool) {
			select {
			case item, ok = <-in:
			case <-stop:
			case <-expired:
			}
			return item, ok
		},
		poll: func() (item In, ok bool) {
			select {
			case item, ok = <-in:
			default:
			}
			return item, ok
		},
	}
}

// Next waits for one item. It appends to batch this item and all further items that are available
// without waiting, at most limit items in total. It returns the extended slice. If linger is above
// 0, Next waits for further items for at most that time. If there are no more items, or if stop is
// closed first, Next appends nothing. Next must not be called concurrently.
func (b Batches[In]) Next(batch []In, limit int, linger time.Duration, stop <-chan struct{}) []In {
	item, ok := b.wait(stop, nil)
	if !ok {
		return batch
	}
	batch = append(batch, item)
	var expired <-chan time.Time
	for range limit - 1 {
		if item, ok = b.poll(); !ok {
			if linger <= 0 {
				break
			}
			if expired == nil {
				timer := time.NewTimer(linger)
				defer timer.Stop()
				expired = timer.C
			}
			if item, ok = b.wait(nil, expired); !ok {
				break
			}
		}
		batch = append(batch, item)
	}
	return batch
}

// ToBatches adds the last stage. Unlike a stage that is added with To, this stage receives several
// items at a time.
func ToBatches[In Item](in Flow[In], name string, consume BatchConsumer[In]) {
	require(consume != nil, "ToBatches", name, "consumer")
	in.use()
	to(in, name, func(ctx context.Context) error { return consume(ctx, in.batches()) })
}
