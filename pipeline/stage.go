package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sourcegraph/conc/panics"
)

// Item is a value that stages exchange: a *Delivery, or a type that embeds a *Delivery, such as
// Result and Decision.
type Item interface {
	delivery() *Delivery
}

// Stage is a function that receives items from in and sends items to out. It returns in three
// cases:
//
//   - The channel in is closed. The stage finishes its items first.
//   - ctx is done. The stage releases its items first. Send releases an item that it could not
//     send, and the pipeline releases the items that are still in the input channel.
//   - The stage needs no more items. It returns nil. The pipeline stops the stages before it, and
//     releases the items that are still in the input channel.
//
// If a stage returns an error or panics, the run fails as by Run.Fail. If the stage comes after the
// execution, running tasks are stopped too, as by Run.Stop, because their outcomes can no longer be
// reported.
//
// A Stage closes neither channel. It may start goroutines, but must wait for their end before it
// returns. It must settle each delivery that it does not pass on.
//
// ctx is the run's Fetch phase if In is *Delivery, that is, if the tasks have not been executed
// yet. Otherwise, ctx is the Settle phase.
type Stage[In, Out Item] func(ctx context.Context, in <-chan In, out chan<- Out) error

// Consumer is the last stage. It settles the items that it receives.
type Consumer[In Item] func(ctx context.Context, in <-chan In) error

// Flow is the output of a stage. Pass each Flow to exactly one Via or To. The second use of a Flow
// panics. If a Flow is not used, Wait returns an error.
type Flow[T Item] struct {
	run    *Run
	ch     <-chan T
	stop   func() // stops the stage and all stages before it
	output *output
}

// output records whether a Flow is used. Its fields are guarded by Run.mu.
type output struct {
	stage string // name of the stage
	used  bool
	// discard gives an unused Flow a last stage, which releases the items and fails the run.
	discard func()
}

// newFlow returns the output of a stage, and adds it to r.outputs.
func newFlow[T Item](r *Run, stage string, ch <-chan T, stop func()) Flow[T] {
	f := Flow[T]{run: r, ch: ch, stop: stop, output: &output{stage: stage}}
	f.output.discard = func() {
		To(f, "output of "+stage, func(context.Context, <-chan T) error {
			return fmt.Errorf("the output of the stage %q is not used: pass the Flow to Via or To", stage)
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outputs = append(r.outputs, f.output)
	return f
}

// use marks the Flow as used. It panics if the Flow was used before.
func (f Flow[T]) use() {
	f.run.mu.Lock()
	used := f.output.used
	f.output.used = true
	f.run.mu.Unlock()
	if used {
		panic(fmt.Sprintf("pipeline: the output of the stage %q is used twice: pass each Flow to one Via or To", f.output.stage))
	}
}

// errNoSource is the error of a run without a call of From.
var errNoSource = errors.New("the run has no source: call From")

// checkComplete fails the run if it has no source, or if the output of a stage is not used.
func (r *Run) checkComplete() {
	r.mu.Lock()
	outputs := slices.Clone(r.outputs)
	r.mu.Unlock()
	if len(outputs) == 0 {
		r.Fail(errNoSource)
	}
	for _, o := range outputs {
		if !o.used {
			o.discard()
		}
	}
}

// StageError is the error of a run that failed in a stage.
type StageError struct {
	// Stage is the name of the stage.
	Stage string
	Err   error
}

// Error returns the name of the stage followed by the error.
func (e *StageError) Error() string { return fmt.Sprintf("%s: %v", e.Stage, e.Err) }

// Unwrap returns Err.
func (e *StageError) Unwrap() error { return e.Err }

// PanicError is the error that the pipeline returns if a stage, a source or a sink panics.
type PanicError struct {
	// Value is the argument of panic.
	Value any
	// Stack is the stack of the goroutine that panicked.
	Stack []byte
}

// Error returns the value of the panic as text. The text does not contain the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the value of the panic if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// maxFetch is the maximum number of deliveries per call of Receive. It is larger than the batches
// of all providers. A channel between stages with this capacity needs little memory.
const maxFetch = 256

// From adds the first stage. It fetches deliveries from source, as many as Options.Slots and
// Options.Prefetch allow, and sends them to the next stage. The run closes source at its end. Call
// From once per run.
//
// If the source returns an error, the run stops fetching and fails. Tasks that have been fetched
// already are executed.
func From(r *Run, name string, source Source) Flow[*Delivery] {
	ctx, cancel := context.WithCancel(r.phases.Fetch)
	out := make(chan *Delivery, r.buffer())
	r.source = source
	r.goStage(name, beforeRun, func() error {
		defer cancel()
		defer close(out)
		defer r.inFlight.seal()
		return recovered(func() error { return r.pump(ctx, source, out) })
	})
	return newFlow(r, name, out, cancel)
}

// pump fetches deliveries from source and sends them to out. It returns when the source is
// exhausted, ctx is done or an error occurs.
func (r *Run) pump(ctx context.Context, source Source, out chan<- *Delivery) error {
	ctx, receive, done := r.receiver(ctx, source)
	defer done()
	defer r.watchReach(source)()
	for {
		limit := r.fetchLimit()
		if limit == 0 {
			return nil
		}
		granted, err := r.inFlight.acquire(ctx, func() int { return min(r.minFetch(), limit) }, limit)
		if err != nil {
			return r.fetchEndReason(ctx, nil)
		}
		r.reach.setReceiving(true)
		ds, err := receive(ctx, granted)
		r.reach.setReceiving(false)
		if len(ds) > 0 {
			r.reach.responded()
		}
		r.inFlight.add(ds, granted)
		for i, d := range ds {
			if Send(ctx, out, d) != nil {
				for _, d := range ds[i+1:] {
					r.releaseAsync(d)
				}
				return r.fetchEndReason(ctx, nil)
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, ErrIdle):
			r.sourceEnded.Store(true)
			return nil
		case err != nil:
			return r.fetchEndReason(ctx, err)
		}
	}
}

// fetchLimit returns the maximum number of deliveries for the next request.
func (r *Run) fetchLimit() int {
	if r.opts.MaxDeliveries == nil {
		return maxFetch
	}
	return int(min(maxFetch, max(*r.opts.MaxDeliveries-r.inFlight.total(), 0)))
}

// receiver returns the function that receives from the source, the context for calls of that
// function, and a function that ends the goroutine that watches for idleness.
func (r *Run) receiver(ctx context.Context, source Source) (context.Context, func(context.Context, int) ([]*Delivery, error), func()) {
	if idler, ok := source.(Idler); ok && r.opts.IdleTimeout > 0 {
		idleAt := func() time.Time { return time.Now().Add(r.opts.IdleTimeout - r.idleFor(source)) }
		return ctx, func(ctx context.Context, n int) ([]*Delivery, error) { return idler.ReceiveUntilIdle(ctx, n, idleAt) }, func() {}
	}
	ctx, done := r.watchIdle(ctx, source)
	return ctx, source.Receive, done
}

// idleFor returns for how long the run has been idle. Time during which the source is unreachable
// does not count.
func (r *Run) idleFor(source Source) time.Duration {
	idle := r.inFlight.idleFor()
	if p, ok := source.(HealthReporter); ok {
		idle = min(idle, time.Since(p.LastFailure()))
	}
	return max(idle, 0)
}

// fetchEndReason returns the error with which pump ends. It returns nil if err only reports that
// ctx was canceled, because the run stopped fetching or was idle. Otherwise it returns err.
func (r *Run) fetchEndReason(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil || err != nil && !errors.Is(err, ctx.Err()):
		return err
	case errors.Is(context.Cause(ctx), ErrIdle):
		r.sourceEnded.Store(true)
	}
	return nil
}

// watchIdle starts a goroutine that cancels the returned context when the run has been idle for
// Options.IdleTimeout. The returned function ends the goroutine.
func (r *Run) watchIdle(ctx context.Context, source Source) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if r.opts.IdleTimeout <= 0 {
		return ctx, func() { cancel(nil) }
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := recovered(func() error { return r.awaitIdle(ctx, source) }); err != nil {
			if !errors.Is(err, ErrIdle) {
				r.Fail(err)
			}
			cancel(err)
		}
	}()
	return ctx, func() { cancel(nil); <-ended }
}

// awaitIdle returns ErrIdle when the run has been idle for Options.IdleTimeout, or nil if ctx is
// done first.
func (r *Run) awaitIdle(ctx context.Context, source Source) error {
	for {
		remaining := r.opts.IdleTimeout - r.idleFor(source)
		if remaining <= 0 {
			return ErrIdle
		}
		timer := time.NewTimer(remaining)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// Via adds a stage. Its output has a buffer.
func Via[In, Out Item](in Flow[In], name string, stage Stage[In, Out]) Flow[Out] {
	return via(in, name, stage, in.run.buffer())
}

// ViaUnbuffered adds a stage whose output has no buffer: the stage keeps an item until the next
// stage receives it. Use ViaUnbuffered for a stage that must still act on waiting items, for
// example release them.
func ViaUnbuffered[In, Out Item](in Flow[In], name string, stage Stage[In, Out]) Flow[Out] {
	return via(in, name, stage, 0)
}

func via[In, Out Item](in Flow[In], name string, stage Stage[In, Out], buffer int) Flow[Out] {
	in.use()
	r := in.run
	ctx, cancel := context.WithCancel(r.contextFor(positionOf[In]()))
	out := make(chan Out, buffer)
	r.goStage(name, positionOf[In](), func() error {
		defer close(out)
		return runStage(ctx, cancel, in, r, func() error { return stage(ctx, in.ch, out) })
	})
	return newFlow(r, name, out, func() { cancel(); in.stop() })
}

// To adds the last stage.
func To[In Item](in Flow[In], name string, consume Consumer[In]) {
	in.use()
	r := in.run
	ctx, cancel := context.WithCancel(r.contextFor(positionOf[In]()))
	r.goStage(name, positionOf[In](), func() error {
		return runStage(ctx, cancel, in, r, func() error { return consume(ctx, in.ch) })
	})
}

// runStage runs one stage. Items that the stage does not receive from its input are released.
func runStage[In Item](ctx context.Context, cancel context.CancelFunc, in Flow[In], r *Run, stage func() error) error {
	// Items are released as soon as ctx is done, even if the stage has not returned. A stage that
	// executes tasks may return only after the grace period.
	released := make(chan struct{})
	go func() {
		defer close(released)
		<-ctx.Done()
		for item := range in.ch {
			r.releaseAsync(item.delivery())
		}
	}()
	err := recovered(stage)
	if err != nil {
		r.Fail(err)
		if positionOf[In]() == afterRun {
			r.endShutdown(err) // the outcomes of running tasks can no longer be reported
		}
	}
	in.stop()
	cancel()
	<-released
	return err
}

// Send sends item to out. If ctx is done first, Send releases item and returns ctx's error. A stage
// must call Send instead of sending on the channel itself.
func Send[T Item](ctx context.Context, out chan<- T, item T) error {
	select {
	case out <- item:
		return nil
	default:
	}
	if positionOf[T]() == afterRun {
		item.delivery().taskEnded() // the next stage is busy, but the task must not count as running
	}
	select {
	case out <- item:
		return nil
	case <-ctx.Done():
		item.delivery().ReleaseAsync()
		return ctx.Err()
	}
}

// positionOf returns the position of a stage that receives items of type T. A stage that receives
// *Delivery is before the execution. Any other stage is after it.
func positionOf[T Item]() position {
	var zero T
	_, ok := any(zero).(*Delivery)
	return position(ok)
}

// position is the position of a stage relative to the execution.
type position bool

const (
	beforeRun position = true
	afterRun  position = false
)

// recovered calls f. If f panics, recovered returns a PanicError.
func recovered(f func() error) error {
	var err error
	if p := panics.Try(func() { err = f() }); p != nil {
		return &PanicError{Value: p.Value, Stack: p.Stack}
	}
	return err
}
