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

	"github.com/ctworker/ctworker/pipeline"
)

// SettleOptions say how Settle tells and settles. The zero value works.
type SettleOptions struct {
	// Hostname stands in every event.
	Hostname string
	// RetryDelay is how long a task that is to be retried stays hidden.
	// Default 0: it is available at once.
	RetryDelay time.Duration
	// Parallel is how many Writes to the sink may be under way at once. A sink that is
	// far away has its events gathered into full batches by that; one that writes to
	// a file gains nothing. Default 1.
	MaxConcurrentWrites int
	// Stats, if set, counts each task once its event is durable.
	Tally *Stats
	// Now is the clock of the events. Default time.Now.
	Now func() time.Time
	// Log receives settlements that failed: the task will be delivered again.
	Log zerolog.Logger
}

// settleBatch is how many events are written at once at most: as many as have
// come while the last ones were written.
const settleBatch = 256

// gather is how long is waited for more events to go into a Write while many are under
// way.
const gather = 2 * time.Millisecond

// fewWrites are never many.
const fewWrites = 4

// Settle ends a pipeline: it writes the event of each task to sink, and settles the task once
// the event is durable. It writes an event only while the lease on the task is known to hold
// (see pipeline.Event.Withheld). Otherwise it discards the result, logs that, and counts the
// task as one whose lease was lost.
//
// The run fails if the sink fails or the source refuses a settlement. Tasks whose events were
// not written are released.
func Settle(sink pipeline.Sink, opts SettleOptions) pipeline.Consumer[pipeline.Decision] {
	return settle(sink, opts, func(j pipeline.Decision) pipeline.Decision { return j })
}

// ClassifyAndSettle is Classify and Settle in one: for a pipeline that has nothing
// between them. It saves one channel operation per task.
func ClassifyAndSettle(sink pipeline.Sink, retry RetryOptions, opts SettleOptions) pipeline.Consumer[pipeline.Result] {
	return settle(sink, opts, retry.decide)
}

func settle[In pipeline.Item](sink pipeline.Sink, opts SettleOptions, judge func(In) pipeline.Decision) pipeline.Consumer[In] {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	opts.MaxConcurrentWrites = max(opts.MaxConcurrentWrites, 1)
	return func(ctx context.Context, in <-chan In) error {
		s := settler{opts: opts, sink: sink, sem: make(chan struct{}, opts.MaxConcurrentWrites), failed: make(chan struct{})}
		// Settling over a network takes its time, and the next events do not
		// wait for it.
		defer s.tasks.Wait()
		if opts.MaxConcurrentWrites == 1 { // without a goroutine, and with the same memory again
			batch := make([]pipeline.Decision, 0, settleBatch)
			for {
				if batch = nextBatch(in, judge, s.failed, batch[:0], 0); len(batch) == 0 {
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
			if len(s.sem)-1 >= max(opts.MaxConcurrentWrites/4, fewWrites) { // or all would soon be taken, with an event each
				linger = gather
			}
			batch := nextBatch(in, judge, s.failed, nil, linger)
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

// settling is the state of one Settle.
type settler struct {
	opts   SettleOptions
	sink   pipeline.Sink
	events []pipeline.Event // the memory of the last batch, where there is one at a time
	sem    chan struct{}    // a token for each batch that is being told of
	writes conc.WaitGroup   // of batches
	tasks  conc.WaitGroup   // that are being settled

	once   sync.Once
	failed chan struct{} // closed when a Write has failed, or a settlement is refused
	err    error         // of it; valid once broken is closed
}

// failure is the error that ends the stage, or nil.
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

// tell writes the events of a batch, and then settles its tasks.
func (s *settler) writeBatch(ctx context.Context, batch []pipeline.Decision) error {
	var events []pipeline.Event
	if s.opts.MaxConcurrentWrites == 1 {
		events = s.events[:0]
		defer func() { s.events = events }()
	}
	now := s.opts.Now()
	for _, j := range batch {
		if e, ok := pipeline.NewTaskEvent(j, s.opts.Hostname, now); ok && (e.Withheld == nil || !e.Withheld()) {
			events = append(events, e)
		}
	}
	if len(events) > 0 {
		if err := s.write(ctx, events); err != nil {
			for _, j := range batch {
				j.ReleaseAsync()
			}
			if ctx.Err() != nil { // the time limit, not the sink; Run.Wait returns the StuckError
				s.opts.Log.Warn().Err(err).Int("tasks", len(batch)).Msg("results discarded: their events were not written in time")
				return nil
			}
			return err
		}
	}
	for i := range batch {
		if j := &batch[i]; j.Withheld() {
			j.Outcome.Kind, j.Verdict = pipeline.LeaseLost, pipeline.Release
		}
	}
	if s.opts.Tally != nil {
		s.opts.Tally.add(batch, time.Now())
	}
	for _, j := range batch {
		if j.ExpiresAt().IsZero() { // a local task: nothing to wait for
			s.settle(ctx, j)
			continue
		}
		s.settleLater(ctx, j)
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

// settleLater settles over a network, which the next events do not wait for.
func (s *settler) settleLater(ctx context.Context, j pipeline.Decision) {
	s.tasks.Go(func() { s.settle(ctx, j) })
}

// nextBatch waits for one item and takes those that are there already, or come within
// linger. Without items, in or broken is closed.
func nextBatch[In any](in <-chan In, judge func(In) pipeline.Decision, broken <-chan struct{}, batch []pipeline.Decision, linger time.Duration) []pipeline.Decision {
	var item In
	var ok bool
	select {
	case item, ok = <-in:
	case <-broken:
	}
	if !ok {
		return batch
	}
	batch = append(batch, judge(item))
	var over <-chan time.Time
	for len(batch) < settleBatch {
		select {
		case item, ok = <-in:
		default:
			if linger <= 0 {
				return batch
			}
			if over == nil {
				timer := time.NewTimer(linger)
				defer timer.Stop()
				over = timer.C
			}
			select {
			case item, ok = <-in:
			case <-over:
				return batch
			}
		}
		if !ok {
			return batch
		}
		batch = append(batch, judge(item))
	}
	return batch
}

func (s *settler) settle(ctx context.Context, j pipeline.Decision) {
	o := &s.opts
	switch k := j.Outcome.Kind; {
	case j.Withheld() && j.ReportLoss():
		o.Log.Warn().Err(j.LostCause()).Str("task_id", j.Task.ID).Int("attempt", j.Attempt).
			Msg("lease lost: result discarded, the task may run elsewhere")
	case k == pipeline.Interrupted || k == pipeline.LeaseLost:
		o.Log.Info().Str("task_id", j.Task.ID).Int("attempt", j.Attempt).Stringer("outcome", k).
			Msg("task not finished; no event written")
	}
	var err error
	switch j.Verdict {
	case pipeline.Ack:
		err = j.Ack(ctx)
	case pipeline.Retry:
		err = j.Release(ctx, o.RetryDelay)
	default:
		err = j.Release(ctx, 0)
	}
	if err == nil {
		return
	}
	if errors.Is(err, pipeline.ErrPermanent) { // and run again and again, this task and all others
		s.fail(err)
		return
	}
	if o.Tally != nil {
		o.Tally.failed()
	}
	msg := "could not settle the task; it will be delivered again"
	if errors.Is(err, pipeline.ErrLeaseLost) {
		msg = "the lease was lost before the task was settled; it may run again elsewhere"
	}
	o.Log.Warn().Err(err).Str("task_id", j.Task.ID).Int("attempt", j.Attempt).Msg(msg)
}
