package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/internal/plumbing"
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
//   - ctx is done. The stage releases its items first. Output.Send releases an item that it could
//     not send, and the pipeline releases the items that are still in the input channel.
//   - The stage needs no more items. It returns nil. The pipeline stops the stages before it, and
//     releases the items that are still in the input channel.
//
// If a stage returns an error or panics, the run fails as after a call of Run.Fail. If the stage
// comes after the execution, running tasks are also stopped as after a call of Run.Stop, because
// their outcomes can no longer be reported.
//
// A Stage may start goroutines, but must wait for their end before it returns. It must settle each
// delivery that it does not pass on. If the stage forgets to settle a delivery, the run fails with
// a StageError. If the run waits for forgotten deliveries and cannot continue, it logs a warning
// with the name of the stage after a few seconds.
//
// ctx is the run's Fetch phase if In is *Delivery, that is, if the tasks have not been executed
// yet. Otherwise, ctx is the Settle phase.
type Stage[In, Out Item] func(ctx context.Context, in <-chan In, out Output[Out]) error

// Consumer is the last stage. It settles the items that it receives.
type Consumer[In Item] func(ctx context.Context, in <-chan In) error

// Output is the output of a stage. It is safe for concurrent use.
type Output[T Item] struct {
	ch       chan<- T
	position int32 // of the stage, or 0 outside a run
}

// NewOutput returns an Output that sends to ch, to call a Stage in a test, without a Run.
func NewOutput[T Item](ch chan<- T) Output[T] { return Output[T]{ch: ch} }

// Send passes item to the next stage. It blocks while the next stage is busy. If ctx is done first,
// Send releases item and returns ctx's error.
func (o Output[T]) Send(ctx context.Context, item T) error {
	ch := o.Offer(item)
	select {
	case ch <- item:
		return nil
	default:
	}
	if positionOf[T]() == afterRun {
		item.delivery().taskEnded() // the next stage is busy, but the task must not count as running
	}
	select {
	case ch <- item:
		return nil
	case <-ctx.Done():
		item.delivery().ReleaseAsync()
		return ctx.Err()
	}
}

// Offer returns a channel to the next stage. The caller may send only item on this channel. Offer
// is for a stage that waits for other events at the same time:
//
//	select {
//	case out.Offer(item) <- item:
//	case d, ok := <-in:
//
// Call Offer again before each attempt to send. The caller owns item until it has been sent.
func (o Output[T]) Offer(item T) chan<- T {
	if o.position > 0 {
		item.delivery().sentBy.Store(o.position)
	}
	return o.ch
}

// Flow is the output of a stage. Pass each Flow to exactly one call of Via, Map, To or ToBatches.
// The second use of a Flow panics. If a Flow is not used, Wait returns an error.
type Flow[T Item] struct {
	run    *Run
	stop   func() // stops the stage and all stages before it
	output *output
	queue  queue // the channel from which the items come

	// The next stage receives the items through one of the following fields. batches is always set.
	// For the Flow of a Map, ch is nil. For every other Flow, channel is nil.
	ch      <-chan T
	batches func() Batches[T]
	channel func() Flow[T] // returns a Flow with a channel for the items
}

// queue is a channel between two stages.
type queue interface {
	// len returns the number of items in the channel.
	len() int
	// release releases all items that arrive. It returns when the channel is closed.
	release(r *Run)
}

type chanQueue[T Item] <-chan T

func (q chanQueue[T]) len() int { return len(q) }

func (q chanQueue[T]) release(r *Run) {
	for item := range q {
		r.releaseAsync(item.delivery())
	}
}

// newChanFlow returns the output of a stage that sends to ch.
func newChanFlow[T Item](r *Run, stage *stageState, ch <-chan T, stop func()) Flow[T] {
	f := newFlow[T](r, stage, chanQueue[T](ch), stop)
	f.ch, f.batches = ch, func() Batches[T] { return NewBatches(ch) }
	return f
}

// withChannel returns a Flow whose field ch is set.
func (f Flow[T]) withChannel() Flow[T] {
	if f.channel == nil {
		return f
	}
	f = f.channel()
	f.use()
	return f
}

// output records whether a Flow is used. Its fields are guarded by Run.mu.
type output struct {
	stage *stageState
	used  bool
	// discard adds a last stage to an unused Flow. This stage releases the items and fails the run.
	discard func()
}

// newFlow returns the output of a stage, and adds it to r.outputs.
func newFlow[T Item](r *Run, stage *stageState, q queue, stop func()) Flow[T] {
	f := Flow[T]{run: r, queue: q, stop: stop, output: &output{stage: stage}}
	f.output.discard = func() {
		to(f, "output of "+stage.name, func(context.Context) error {
			return fmt.Errorf("the output of the stage %q is not used: pass the Flow to Via, Map, To or ToBatches", stage.name)
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
		panic(fmt.Sprintf("pipeline: the output of the stage %q is used twice: pass each Flow to one Via, Map, To or ToBatches", f.output.stage.name))
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
// If the source returns an error, the run stops fetching and fails. Tasks that have already been
// fetched are still executed. The name is put before the error.
func From(r *Run, name string, source Source) Flow[*Delivery] {
	require(source != nil, "From", name, "source")
	if r.source != nil {
		panic("pipeline: From is called twice for a Run: combine the sources in one Source, or use a Run for each of them")
	}
	if h, ok := source.(Hinter); ok {
		hints := h.Hints()
		r.prefetch.SetSource(hints.Shared, min(hints.BatchSize, maxFetch))
	}
	ctx, cancel := context.WithCancel(r.phases.Fetch)
	out := make(chan *Delivery, r.buffer())
	r.source = source
	st := r.newStage(name, nil, nil)
	r.goStage(st, beforeRun, func() error {
		defer cancel()
		defer close(out)
		defer r.inFlight.seal()
		return recovered(func() error { return r.pump(ctx, source, Output[*Delivery]{out, st.position}) })
	})
	return newChanFlow(r, st, out, cancel)
}

// require panics if an argument of a function that composes a pipeline is nil. Without it, a goroutine of
// the pipeline would panic later, with a text that does not name the stage.
func require(ok bool, function, stage, argument string) {
	if !ok {
		panic(fmt.Sprintf("pipeline: %s: the %s of stage %q is nil", function, argument, stage))
	}
}

// pump fetches deliveries from source and sends them to out. It returns when the source is
// exhausted, ctx is done or an error occurs.
func (r *Run) pump(ctx context.Context, source Source, out Output[*Delivery]) error {
	ctx, receive, done := r.receiver(ctx, source)
	defer done()
	defer r.watchReach(source)()
	for {
		limit := r.fetchLimit()
		if limit == 0 {
			return nil
		}
		granted, err := r.prefetch.Acquire(ctx, limit)
		if err != nil {
			return r.fetchEndReason(ctx, nil)
		}
		r.reach.setReceiving(true)
		ds, err := receive(ctx, granted)
		r.reach.setReceiving(false)
		if len(ds) > 0 {
			r.reach.responded()
		}
		if fault := checkReceived(ds, granted); fault != nil && (len(ds) > 0 || err == nil && ctx.Err() == nil) {
			err = errors.Join(err, fault)
		}
		r.inFlight.add(ds, granted)
		for i, d := range ds {
			if out.Send(ctx, d) != nil {
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

// checkReceived returns an error if a source that returned no other error has broken the contract of Receive.
func checkReceived(ds []*Delivery, limit int) error {
	switch {
	case len(ds) == 0:
		return errors.New("the source returned neither tasks nor an error: Receive must wait for at least one task, and return io.EOF after the last one")
	case len(ds) > limit:
		return fmt.Errorf("the source returned %d tasks although at most %d were requested", len(ds), limit)
	}
	for _, d := range ds {
		if d.Task.ID == "" {
			return errors.New("the source returned a task without an ID")
		}
	}
	return nil
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

// fetchEndReason returns the error that pump must return. If the run stopped fetching or was idle,
// ctx is canceled, and an err that only reports this is replaced by nil. Any other err is returned.
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

// Via adds a stage.
func Via[In, Out Item](in Flow[In], name string, stage Stage[In, Out]) Flow[Out] {
	require(stage != nil, "Via", name, "stage")
	in.use()
	return via(in.withChannel(), name, stage)
}

// via is Via for a Flow that has a channel and was marked as used.
func via[In, Out Item](in Flow[In], name string, stage Stage[In, Out]) Flow[Out] {
	r := in.run
	ctx, cancel := context.WithCancel(r.contextFor(positionOf[In]()))
	out := make(chan Out, r.bufferFor(positionOf[Out]()))
	st := r.newStage(name, in.output.stage, in.queue)
	st.longTerm.Store(positionOf[Out]() == afterRun) // the stage executes tasks or comes later
	r.goStage(st, positionOf[In](), func() error {
		defer close(out)
		return runStage(ctx, cancel, in, st, func(ctx context.Context) error {
			return stage(ctx, in.ch, Output[Out]{out, st.position})
		})
	})
	return newChanFlow(r, st, out, func() { cancel(); in.stop() })
}

// To adds the last stage.
func To[In Item](in Flow[In], name string, consume Consumer[In]) {
	require(consume != nil, "To", name, "consumer")
	in.use()
	in = in.withChannel()
	to(in, name, func(ctx context.Context) error { return consume(ctx, in.ch) })
}

// to adds the last stage, whose code is the function stage.
func to[In Item](in Flow[In], name string, stage func(context.Context) error) {
	ctx, cancel := context.WithCancel(in.run.contextFor(positionOf[In]()))
	st := in.run.newStage(name, in.output.stage, in.queue)
	st.longTerm.Store(positionOf[In]() == afterRun)
	in.run.goStage(st, positionOf[In](), func() error { return runStage(ctx, cancel, in, st, stage) })
}

// runStage runs one stage. Items that the stage does not receive from its input are released.
func runStage[In Item](ctx context.Context, cancel context.CancelFunc, in Flow[In], st *stageState, stage func(context.Context) error) error {
	// Release the items in the channel as soon as ctx is done, without waiting until the stage has
	// returned. A stage that executes tasks may return only after the grace period.
	released := make(chan struct{})
	go func() {
		defer close(released)
		<-ctx.Done()
		in.queue.release(in.run)
	}()
	err := recovered(func() error { return stage(plumbing.WithStage(ctx, st)) })
	if err != nil {
		in.run.Fail(err)
		if positionOf[In]() == afterRun {
			in.run.endShutdown(err) // the outcomes of running tasks can no longer be reported
		}
	}
	in.stop()
	cancel()
	<-released
	return err
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
