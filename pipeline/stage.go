package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sourcegraph/conc/panics"
)

// A Item is what flows through a pipeline: a *Delivery, or a type of your
// own that embeds one, as Result and Decision do.
type Item interface {
	delivery() *Delivery
}

// A Stage takes items from in and sends items to out, until one of three:
//
//   - in is closed: it finishes what it holds and returns;
//   - ctx ends: it gives back what it holds and returns. Send does that for an
//     item that could not be sent; the pipeline gives back what is still in in;
//   - it needs no more: it returns nil. Everything before it ends, and what has
//     been fetched beyond is given back.
//
// An error or a panic fails the run as Run.Fail does. In a stage after the execution it also
// stops the run, because running tasks can no longer be reported. A Stage closes neither
// channel, may start goroutines but has waited for them when it returns, and
// settles each delivery that it does not pass on.
//
// Its ctx is the run's Fetch phase where In is *Delivery (nothing has been run
// yet), and otherwise its Settle phase.
type Stage[In, Out Item] func(ctx context.Context, in <-chan In, out chan<- Out) error

// A StopFetching is the last stage: it settles what it takes.
type Consumer[In Item] func(ctx context.Context, in <-chan In) error

// A Flow is what comes out of one stage, on its way to the next. Each Flow goes
// into exactly one Via or To.
type Flow[T Item] struct {
	run  *Run
	ch   <-chan T
	stop func() // ends everything up to here
}

// StageError is the error of a run that a stage ended.
type StageError struct {
	// Stage is the name that the stage was given.
	Stage string
	Err   error
}

// Error names the stage.
func (e *StageError) Error() string { return fmt.Sprintf("%s: %v", e.Stage, e.Err) }

// Unwrap returns the stage's own error.
func (e *StageError) Unwrap() error { return e.Err }

// PanicError is what a panic in a stage is turned into.
type PanicError struct {
	// Value is what was passed to panic.
	Value any
	// Stack is the stack of the goroutine that panicked.
	Stack []byte
}

// Error returns the panic's value; the stack is left to those who print it.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the panic's value where it was an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// maxFetch is how many deliveries are asked for at once at most: enough to
// fill any provider's batch, small enough not to matter in memory.
const maxFetch = 256

// From starts the pipeline: it fetches from source for as many deliveries as
// Options.Slots and Options.Ahead allow to be out, and sends them on. The run
// closes source at its end. A run has one From.
//
// An error of the source ends the fetching, but not what has been fetched:
// those tasks are run first.
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
	return Flow[*Delivery]{run: r, ch: out, stop: cancel}
}

func (r *Run) pump(ctx context.Context, source Source, out chan<- *Delivery) error {
	ctx, receive, done := r.receiver(ctx, source)
	defer done()
	defer r.watchReach(source)()
	for {
		most := r.maxFetch()
		if most == 0 {
			return nil
		}
		granted, err := r.inFlight.acquire(ctx, func() int { return min(r.minFetch(), most) }, most)
		if err != nil {
			return r.fetchEndReason(ctx, nil)
		}
		r.reach.setReceiving(true)
		ds, err := receive(ctx, granted)
		r.reach.setReceiving(false)
		if len(ds) > 0 {
			r.reach.answered()
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

// fetchMost returns the maximum number of deliveries for the next request.
func (r *Run) maxFetch() int {
	if r.opts.MaxDeliveries == nil {
		return maxFetch
	}
	return int(min(maxFetch, max(*r.opts.MaxDeliveries-r.inFlight.total(), 0)))
}

// receiver returns the function that receives from the source, its context, and a function
// that stops watching for idleness.
func (r *Run) receiver(ctx context.Context, source Source) (context.Context, func(context.Context, int) ([]*Delivery, error), func()) {
	if idler, ok := source.(Idler); ok && r.opts.IdleTimeout > 0 {
		idleAt := func() time.Time { return time.Now().Add(r.opts.IdleTimeout - r.idleFor(source)) }
		return ctx, func(ctx context.Context, n int) ([]*Delivery, error) { return idler.ReceiveUntilIdle(ctx, n, idleAt) }, func() {}
	}
	ctx, done := r.watchIdle(ctx, source)
	return ctx, source.Receive, done
}

// idleFor returns for how long there has been nothing to do. Time in which the source was
// unreachable does not count.
func (r *Run) idleFor(source Source) time.Duration {
	idle := r.inFlight.idleFor()
	if p, ok := source.(HealthReporter); ok {
		idle = min(idle, time.Since(p.LastFailure()))
	}
	return max(idle, 0)
}

// over returns the error with which the pump ends: err, or nil if ctx was canceled, by the
// run or because the source was idle.
func (r *Run) fetchEndReason(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil || err != nil && !errors.Is(err, ctx.Err()):
		return err
	case errors.Is(context.Cause(ctx), ErrIdle):
		r.sourceEnded.Store(true)
	}
	return nil
}

// watchIdle returns a context that is canceled once there has been nothing to do for
// Options.IdleTimeout, and a function that stops watching.
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

// awaitIdle returns ErrIdle once there has been nothing to do for Options.IdleTimeout, or nil
// if ctx is done first.
func (r *Run) awaitIdle(ctx context.Context, source Source) error {
	for {
		left := r.opts.IdleTimeout - r.idleFor(source)
		if left <= 0 {
			return ErrIdle
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// Via adds a stage.
func Via[In, Out Item](in Flow[In], name string, stage Stage[In, Out]) Flow[Out] {
	return via(in, name, stage, in.run.buffer())
}

// ViaUnbuffered adds a stage that keeps what it has until the next stage takes it,
// such as one that looks after what waits.
func ViaUnbuffered[In, Out Item](in Flow[In], name string, stage Stage[In, Out]) Flow[Out] {
	return via(in, name, stage, 0)
}

func via[In, Out Item](in Flow[In], name string, stage Stage[In, Out], buffer int) Flow[Out] {
	r := in.run
	ctx, cancel := context.WithCancel(r.phaseOf(isDelivery[In]()))
	out := make(chan Out, buffer)
	r.goStage(name, isDelivery[In](), func() error {
		defer close(out)
		return runStage(ctx, cancel, in, r, func() error { return stage(ctx, in.ch, out) })
	})
	return Flow[Out]{run: r, ch: out, stop: func() { cancel(); in.stop() }}
}

// To ends the pipeline.
func To[In Item](in Flow[In], name string, drain Consumer[In]) {
	r := in.run
	ctx, cancel := context.WithCancel(r.phaseOf(isDelivery[In]()))
	r.goStage(name, isDelivery[In](), func() error {
		return runStage(ctx, cancel, in, r, func() error { return drain(ctx, in.ch) })
	})
}

// runStage runs one stage to its end, and sees to what it leaves in its input.
func runStage[In Item](ctx context.Context, cancel context.CancelFunc, in Flow[In], r *Run, stage func() error) error {
	// Items are given back as soon as ctx ends, and not only when the stage has
	// returned: one that executes tasks may take its whole grace period to.
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		<-ctx.Done()
		for item := range in.ch {
			r.releaseAsync(item.delivery())
		}
	}()
	err := recovered(stage)
	if err != nil {
		r.Fail(err)
		if isDelivery[In]() == afterRun {
			r.endStop(err) // running tasks can no longer be reported
		}
	}
	in.stop()
	cancel()
	<-drained
	return err
}

// Send sends item, or gives it back if ctx ends first; then it returns ctx's
// error. A stage sends with nothing else.
func Send[T Item](ctx context.Context, out chan<- T, item T) error {
	select {
	case out <- item:
		return nil
	default:
	}
	if isDelivery[T]() == afterRun {
		item.delivery().taskEnded() // it waits, and its task no longer runs
	}
	select {
	case out <- item:
		return nil
	case <-ctx.Done():
		item.delivery().ReleaseAsync()
		return ctx.Err()
	}
}

// isDelivery reports whether T is *Delivery, and so whether a stage that takes
// T stands before the execution.
func isDelivery[T Item]() position {
	var zero T
	_, ok := any(zero).(*Delivery)
	return position(ok)
}

// position tells on which side of the execution a stage stands.
type position bool

const (
	beforeRun position = true
	afterRun  position = false
)

// recovered calls f and turns a panic in it into a PanicError.
func recovered(f func() error) error {
	var err error
	if p := panics.Try(func() { err = f() }); p != nil {
		return &PanicError{Value: p.Value, Stack: p.Stack}
	}
	return err
}
