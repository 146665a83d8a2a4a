package stages

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/pipeline"
)

// SettleOptions configures Settle. The zero value works.
type SettleOptions struct {
	// Hostname is the hostname in the events.
	Hostname string
	// RunID is the field run_id of the events. Defaults to "", which omits the field.
	RunID string
	// RetryDelay is the delay after which a task becomes available for its next attempt. Defaults
	// to 0.
	RetryDelay time.Duration
	// MaxConcurrentWrites is the maximum number of concurrent Writes to the sink. Set it above 1
	// for a remote sink: the sink can then collect the events of several Writes in one request. A
	// sink that writes to a file does not benefit. Defaults to 1.
	MaxConcurrentWrites int
	// Stats counts each task when its event is durable. May be nil.
	Stats *Stats
	// Now returns the time that is written to events. Defaults to time.Now.
	Now func() time.Time
	// Log receives tasks that could not be acknowledged or released, and tasks for which no event
	// is written.
	Log zerolog.Logger
}

// Validate returns an error that lists every invalid field, or nil.
func (o SettleOptions) Validate() error {
	return optcheck.Join("stages.SettleOptions", optcheck.NotNegative("RetryDelay", o.RetryDelay),
		optcheck.NotNegative("MaxConcurrentWrites", o.MaxConcurrentWrites))
}

// settleBatch is the maximum number of events per Write. Events that arrive while a Write is in
// flight are collected for the next Write.
const settleBatch = 256

// lingerTime is how long the stage waits for more events before it starts a Write while many Writes
// are already in flight; see minConcurrentWrites.
const lingerTime = 2 * time.Millisecond

// minConcurrentWrites is the minimum number of Writes in flight at which the stage waits lingerTime
// for more events.
const minConcurrentWrites = 4

// Settle returns the last stage of a pipeline. It writes the event of each task to sink, and
// settles the task when the event is durable.
//
// If the lease on a task may have expired, the event is not written (see pipeline.Event.Withheld).
// Settle then discards the result, logs a warning, and counts the task as LeaseLost.
//
// The run fails if the sink fails, or if the source refuses to acknowledge or release a task. Tasks
// whose events were not written are released.
//
// Add the stage with pipeline.ToBatches. It needs Decisions, which the stage Classify makes from
// Results.
func Settle(sink pipeline.Sink, opts SettleOptions) pipeline.BatchConsumer[pipeline.Decision] {
	if sink == nil {
		panic("stages: Settle: the Sink is nil")
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	opts.MaxConcurrentWrites = max(opts.MaxConcurrentWrites, 1)
	return func(ctx context.Context, in pipeline.Batches[pipeline.Decision]) error {
		s := settler{opts: opts, sink: sink, sem: make(chan struct{}, opts.MaxConcurrentWrites), failed: make(chan struct{})}
		// Settling over a network is slow, so tasks are settled in goroutines while further events
		// are written.
		defer s.tasks.Wait()
		if opts.MaxConcurrentWrites == 1 { // no goroutine per batch, and one buffer for all batches
			batch := make([]pipeline.Decision, 0, settleBatch)
			for {
				if batch = in.Next(batch[:0], settleBatch, 0, s.failed); len(batch) == 0 {
					return s.failure()
				}
				if err := s.writeBatch(ctx, batch); err != nil {
					return err
				}
			}
		}
		defer s.writes.Wait()
		for {
			s.sem <- struct{}{}
			linger := time.Duration(0)
			// If many Writes are in flight, collect more events before the next Write. Without this
			// pause, each of the MaxConcurrentWrites Writes would soon contain only one event.
			if len(s.sem)-1 >= max(opts.MaxConcurrentWrites/4, minConcurrentWrites) {
				linger = lingerTime
			}
			batch := in.Next(nil, settleBatch, linger, s.failed)
			if len(batch) == 0 {
				break
			}
			s.writes.Go(func() {
				defer func() { <-s.sem }()
				if err := s.writeBatch(ctx, batch); err != nil {
					s.fail(err)
				}
			})
		}
		s.writes.Wait()
		return s.failure()
	}
}

// settler is the state of one Settle stage.
type settler struct {
	opts   SettleOptions
	sink   pipeline.Sink
	events []pipeline.Event // buffer, used if MaxConcurrentWrites is 1
	sem    chan struct{}    // semaphore: one token per Write in flight
	writes conc.WaitGroup   // Writes in flight
	tasks  conc.WaitGroup   // settlements in flight

	once   sync.Once
	failed chan struct{} // closed when a Write has failed or a settlement was refused
	err    error         // valid after failed is closed
}

// failure waits for the settlements in flight, and returns the error that ends the stage, or nil.
func (s *settler) failure() error {
	s.tasks.Wait()
	select {
	case <-s.failed:
		return s.err
	default:
		return nil
	}
}

func (s *settler) fail(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.failed)
	})
}

// writeBatch writes the events of a batch, and then settles its tasks.
func (s *settler) writeBatch(ctx context.Context, batch []pipeline.Decision) error {
	var events []pipeline.Event
	if s.opts.MaxConcurrentWrites == 1 {
		events = s.events[:0]
		defer func() { s.events = events }()
	}
	now := s.opts.Now()
	if err := check(batch); err != nil {
		releaseAll(batch)
		return err
	}
	for _, d := range batch {
		if e, ok := pipeline.NewTaskEvent(d, s.opts.Hostname, now); ok && (e.Withheld == nil || !e.Withheld()) {
			e.RunID = s.opts.RunID
			events = append(events, e)
		}
	}
	if len(events) > 0 {
		if err := s.write(ctx, events); err != nil {
			releaseAll(batch)
			if ctx.Err() != nil { // not a fault of the sink: the Settle phase has ended
				s.opts.Log.Warn().Err(err).Int("task_count", len(batch)).Msg("discarded the results of tasks because their events could not be written before the end of the shutdown; the tasks will run again")
				return nil
			}
			return err
		}
	}
	for i := range batch {
		if d := &batch[i]; d.Plumbing().Withheld() {
			d.Outcome.Kind, d.Verdict = pipeline.LeaseLost, pipeline.Release
		}
	}
	if s.opts.Stats != nil {
		s.opts.Stats.add(batch, time.Now())
	}
	for _, d := range batch {
		if d.Plumbing().ExpiresAt().IsZero() { // a task from a local source: settling does not block
			s.settle(ctx, d)
			continue
		}
		s.settleLater(ctx, d)
	}
	return nil
}

// check returns an error for a Decision that a stage or a Runner has left incomplete. Without the error, the
// source would deliver the task again and again.
func check(batch []pipeline.Decision) error {
	for i := range batch {
		switch d := &batch[i]; {
		case d.Outcome.Kind == 0:
			return fmt.Errorf("task %q has no outcome: the Runner returned the zero Outcome; set its Kind, for example to pipeline.Completed", d.Task.ID)
		case d.Verdict == 0:
			return fmt.Errorf("task %q has no verdict: the stage before stages.Settle must set Decision.Verdict to Ack, Retry or Release, as stages.Classify does", d.Task.ID)
		}
	}
	return nil
}

func releaseAll(batch []pipeline.Decision) {
	for _, d := range batch {
		d.ReleaseAsync()
	}
}

// write writes events to the sink. A panic of the sink becomes an error.
func (s *settler) write(ctx context.Context, events []pipeline.Event) (err error) {
	if p := panics.Try(func() { err = s.sink.Write(ctx, events) }); p != nil {
		err = p.AsError()
	}
	if err != nil {
		return fmt.Errorf("write %d events: %w", len(events), err)
	}
	return nil
}

// settleLater settles a task in a goroutine, because the request to the source blocks.
func (s *settler) settleLater(ctx context.Context, d pipeline.Decision) {
	s.tasks.Go(func() { s.settle(ctx, d) })
}

func (s *settler) settle(ctx context.Context, d pipeline.Decision) {
	o := &s.opts
	var lost error
	if p := d.Plumbing(); p.Withheld() {
		lost = p.ReportLoss()
	}
	switch kind := d.Outcome.Kind; {
	case lost != nil:
		o.Log.Warn().Err(lost).Str("task_id", d.Task.ID).Int("attempt", d.Attempt).
			Msg("lease lost: discarded the result of the task and wrote no event, because another worker may run the task")
	case kind == pipeline.Interrupted || kind == pipeline.LeaseLost:
		o.Log.Info().Str("task_id", d.Task.ID).Int("attempt", d.Attempt).Stringer("outcome", kind).
			Msg("task was stopped before it finished; no event is written for it")
	}
	var err error
	switch d.Verdict {
	case pipeline.Ack:
		err = d.Ack(ctx)
	case pipeline.Retry:
		err = d.Release(ctx, o.RetryDelay)
	default:
		err = d.Release(ctx, 0)
	}
	if err == nil {
		return
	}
	if errors.Is(err, pipeline.ErrPermanent) { // without acknowledgments, every task would run again and again
		s.fail(err)
		return
	}
	if o.Stats != nil {
		o.Stats.failed()
	}
	msg := "could not acknowledge or release the task; it will be delivered again"
	if errors.Is(err, pipeline.ErrLeaseLost) {
		msg = "lease lost after the event of the task was written, but before the task was acknowledged; another worker may run the task again"
	}
	o.Log.Warn().Err(err).Str("task_id", d.Task.ID).Int("attempt", d.Attempt).Msg(msg)
}
