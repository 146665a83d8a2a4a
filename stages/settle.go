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
	// RetryDelay is the delay after which a task to be retried becomes available. Defaults
	// to 0.
	RetryDelay time.Duration
	// MaxConcurrentWrites is the maximum number of concurrent Writes to the sink. If it is above 1,
	// a remote sink can collect events into full batches. A sink that writes to a file does not
	// benefit. Defaults to 1.
	MaxConcurrentWrites int
	// Stats, if set, counts each task once its event is durable.
	Stats *Stats
	// Now returns the time for the events. Defaults to time.Now.
	Now func() time.Time
	// Log receives failed settlements, whose tasks will be delivered again.
	Log zerolog.Logger
}

// Validate returns an error that lists every invalid field, or nil.
func (o SettleOptions) Validate() error {
	return optcheck.Join("stages.SettleOptions", optcheck.NotNegative("RetryDelay", o.RetryDelay),
		optcheck.NotNegative("MaxConcurrentWrites", o.MaxConcurrentWrites))
}

// settleBatch is the maximum number of events per Write. The events that arrive during a Write are
// written by the next one.
const settleBatch = 256

// lingerTime is how long the stage waits for more events before a Write, if many Writes are in
// flight.
const lingerTime = 2 * time.Millisecond

// minConcurrentWrites is the number of Writes in flight from which on the stage waits for more
// events.
const minConcurrentWrites = 4

// Settle returns the last stage of a pipeline: it writes the event of each task to sink, and
// settles the task once the event is durable. If the lease on a task may have expired, Settle does
// not write its event (see pipeline.Event.Withheld). It discards the result, logs that, and counts
// the lease as lost.
//
// The run fails if the sink fails, or if the source refuses a settlement. Tasks whose events were
// not written are released.
func Settle(sink pipeline.Sink, opts SettleOptions) pipeline.Consumer[pipeline.Decision] {
	return settle(sink, opts, func(d pipeline.Decision) pipeline.Decision { return d })
}

// ClassifyAndSettle is Classify and Settle in one stage, which saves one channel operation
// per task.
func ClassifyAndSettle(sink pipeline.Sink, retry RetryOptions, opts SettleOptions) pipeline.Consumer[pipeline.Result] {
	return settle(sink, opts, retry.decide)
}

func settle[In pipeline.Item](sink pipeline.Sink, opts SettleOptions, decide func(In) pipeline.Decision) pipeline.Consumer[In] {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	opts.MaxConcurrentWrites = max(opts.MaxConcurrentWrites, 1)
	return func(ctx context.Context, in <-chan In) error {
		s := settler{opts: opts, sink: sink, sem: make(chan struct{}, opts.MaxConcurrentWrites), failed: make(chan struct{})}
		// Settling over a network is slow, so it runs concurrently with the next Writes.
		defer s.tasks.Wait()
		if opts.MaxConcurrentWrites == 1 { // no goroutine per batch, and one buffer for all batches
			batch := make([]pipeline.Decision, 0, settleBatch)
			for {
				if batch = nextBatch(in, decide, s.failed, batch[:0], 0); len(batch) == 0 {
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
			if len(s.sem)-1 >= max(opts.MaxConcurrentWrites/4, minConcurrentWrites) { // otherwise all slots would soon be in use, with one event each
				linger = lingerTime
			}
			batch := nextBatch(in, decide, s.failed, nil, linger)
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
	err    error         // valid once failed is closed
}

// failure returns the error that ends the stage, or nil.
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
	for _, d := range batch {
		if e, ok := pipeline.NewTaskEvent(d, s.opts.Hostname, now); ok && (e.Withheld == nil || !e.Withheld()) {
			events = append(events, e)
		}
	}
	if len(events) > 0 {
		if err := s.write(ctx, events); err != nil {
			for _, d := range batch {
				d.ReleaseAsync()
			}
			if ctx.Err() != nil { // the time limit, not the sink; Run.Wait returns the ShutdownTimeoutError
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
		if d.ExpiresAt().IsZero() { // a local task: settling does not block
			s.settle(ctx, d)
			continue
		}
		s.settleLater(ctx, d)
	}
	return nil
}

// write writes events. A panic in the sink becomes an error.
func (s *settler) write(ctx context.Context, events []pipeline.Event) (err error) {
	if p := panics.Try(func() { err = s.sink.Write(ctx, events) }); p != nil {
		err = p.AsError()
	}
	if err != nil {
		return fmt.Errorf("write %d events: %w", len(events), err)
	}
	return nil
}

// settleLater settles a task concurrently, because its source is remote.
func (s *settler) settleLater(ctx context.Context, d pipeline.Decision) {
	s.tasks.Go(func() { s.settle(ctx, d) })
}

// nextBatch waits for one item, and adds the items that are available or arrive within
// linger. It returns an empty batch if in or failed is closed.
func nextBatch[In any](in <-chan In, decide func(In) pipeline.Decision, failed <-chan struct{}, batch []pipeline.Decision, linger time.Duration) []pipeline.Decision {
	var item In
	var ok bool
	select {
	case item, ok = <-in:
	case <-failed:
	}
	if !ok {
		return batch
	}
	batch = append(batch, decide(item))
	var expired <-chan time.Time
	for len(batch) < settleBatch {
		select {
		case item, ok = <-in:
		default:
			if linger <= 0 {
				return batch
			}
			if expired == nil {
				timer := time.NewTimer(linger)
				defer timer.Stop()
				expired = timer.C
			}
			select {
			case item, ok = <-in:
			case <-expired:
				return batch
			}
		}
		if !ok {
			return batch
		}
		batch = append(batch, decide(item))
	}
	return batch
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
			Msg("lease lost: result discarded, another worker may run the task")
	case kind == pipeline.Interrupted || kind == pipeline.LeaseLost:
		o.Log.Info().Str("task_id", d.Task.ID).Int("attempt", d.Attempt).Stringer("outcome", kind).
			Msg("task not finished: no event written")
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
	if errors.Is(err, pipeline.ErrPermanent) { // every task would be run again and again
		s.fail(err)
		return
	}
	if o.Stats != nil {
		o.Stats.failed()
	}
	msg := "could not settle task: it will be delivered again"
	if errors.Is(err, pipeline.ErrLeaseLost) {
		msg = "lease lost before the task was settled: another worker may run it again"
	}
	o.Log.Warn().Err(err).Str("task_id", d.Task.ID).Int("attempt", d.Attempt).Msg(msg)
}
