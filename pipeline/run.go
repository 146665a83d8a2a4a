package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/sourcegraph/conc"
)

// Options say how a Run fetches and how it ends. The zero value works.
type Options struct {
	// Slots is how many tasks can run at once. Default 1.
	Slots int
	// Ahead is how many tasks may be fetched beyond Slots, so that a slot that
	// falls free need not wait for the source. Whoever shares the source with
	// others leaves it 0 for long tasks. Default 0.
	Prefetch int
	// Shared says that others take tasks from the same source. Then no more than the
	// next second's worth is fetched ahead, once tasks have shown to be that short.
	SharedSource bool
	// Batch is how many deliveries the source hands over at the price of one, such
	// as 10 where a provider is paid for each request. While enough of them wait for
	// a slot, no fewer are asked for. Default 1.
	FetchBatchSize int
	// MaxDeliveries is the maximum number of deliveries to fetch, including those that a
	// stage skips. The run never requests more, so no request is left under way after the
	// last delivery. Defaults to nil, which means no limit.
	MaxDeliveries *int64
	// IdleTimeout ends the run, as if the source were exhausted, after there has been
	// nothing to do for this long: no delivery is in flight, and the source is reachable
	// (see HealthReporter) but has none. Defaults to 0, which disables it.
	IdleTimeout time.Duration
	// Grace is how long running tasks are left alone after Stop before the
	// Work phase ends and they are asked to end. Default 0: at once.
	GracePeriod time.Duration
	// KillDelay is how long they then have before the Kill phase ends too.
	// Default 0: at once.
	KillDelay time.Duration
	// SettleTimeout limits the time for reporting and settling after the last task has
	// ended. After Stop the limit is at most 5 s, and after Kill at most 1 s. Defaults to
	// 30 s.
	SettleTimeout time.Duration
	// UnreachableTimeout fails the run with an UnreachableError after the provider of the
	// source, or of a sink passed to WatchSink, has answered no request for this long.
	// Defaults to 0, which disables it.
	UnreachableTimeout time.Duration
	// OnStop is called once when the run is asked to stop, before the grace
	// period begins; it is where tasks are given notice. May be nil.
	OnStop func(cause error)
	// OnFail is called with the error of the first Fail, which Wait returns, instead of
	// logging it. Defaults to nil, which logs the error.
	OnFail func(err error)
	// Log receives what goes wrong and is no reason to end. Default: nowhere.
	Log zerolog.Logger
}

func (o Options) withDefaults() Options {
	o.Slots = max(o.Slots, 1)
	o.Prefetch = max(o.Prefetch, 0)
	o.FetchBatchSize = min(max(o.FetchBatchSize, 1), maxFetch)
	if o.SettleTimeout <= 0 {
		o.SettleTimeout = 30 * time.Second
	}
	return o
}

// Phases are the contexts of a run. Each outlives the one before.
type Phases struct {
	// Fetch: done means take nothing more, and give back what has not started.
	Fetch context.Context
	// Stop: done means that the end is asked for, and what runs has the grace period.
	Shutdown context.Context
	// Work: done means ask what runs to end (SIGTERM).
	Terminate context.Context
	// Kill: done means kill what runs (SIGKILL).
	Kill context.Context
	// Settle: done means abandon reporting and settling.
	Settle context.Context
	// Close: done means abandon closing the source and the sinks. It remains open after
	// Wait, for what the caller closes. Its time limit starts when the last task has ended.
	Close context.Context
}

// A Run is one pipeline from its start to its end. Make it with New, add its
// stages with From, Via and To, then call Wait.
type Run struct {
	opts   Options
	phases Phases
	// end* end the phase of that name; the cause is kept with the context.
	endFetch, endStop, endWork, endKill, endSettle, endClose context.CancelCauseFunc

	unhook func() bool // from the parent context

	inFlight    *inFlight
	demand      demand
	source      Source
	sourceEnded atomic.Bool

	working conc.WaitGroup // the stages that take deliveries not yet run
	telling conc.WaitGroup // the stages after them

	reach reach // reachability of the source's provider

	mu        sync.Mutex
	stages    []*stageState
	waiting   bool
	failure   error                 // first error of Fail
	urgency   urgency               // see end.go
	abandoned *ShutdownTimeoutError // what was unsettled when the Settle phase reached its time limit
	settleBy  *limit                // ends the Settle phase; nil while tasks run
	closeBy   *limit                // ends the Close phase; nil while tasks run
	sinks     []*watchedSink
}

// stageState is what is known of one stage, for the report at the end.
type stageState struct {
	name string
	done atomic.Bool
	err  error // valid once done
}

// New returns a run without stages. The run is stopped, as by Stop, when ctx is done. The
// values of ctx are passed to the stages. To end the run with an error, call Fail instead of
// canceling ctx.
func New(ctx context.Context, opts Options) *Run {
	opts = opts.withDefaults()
	r := &Run{opts: opts, inFlight: newInFlight(opts.Slots + opts.Prefetch)}
	r.inFlight.giveBack = r.releaseAsync
	r.inFlight.reach = &r.reach
	r.demand.ahead.Store(int64(opts.Prefetch))
	values := context.WithoutCancel(ctx)
	r.phases.Close, r.endClose = context.WithCancelCause(values)
	r.phases.Settle, r.endSettle = context.WithCancelCause(r.phases.Close)
	r.phases.Kill, r.endKill = context.WithCancelCause(values)
	r.phases.Terminate, r.endWork = context.WithCancelCause(r.phases.Kill)
	r.phases.Shutdown, r.endStop = context.WithCancelCause(r.phases.Terminate)
	r.phases.Fetch, r.endFetch = context.WithCancelCause(r.phases.Shutdown)
	r.unhook = context.AfterFunc(ctx, func() { r.Stop(context.Cause(ctx)) })
	return r
}

// Phases returns the run's contexts, for the stage that executes tasks.
func (r *Run) Phases() Phases { return r.phases }

// Slots is how many tasks can run at once.
func (r *Run) Slots() int { return r.opts.Slots }

// Shared is Options.Shared.
func (r *Run) Shared() bool { return r.opts.SharedSource }

// SourceExhausted reports whether the source said that there will never be another
// task, or had none for Options.IdleTimeout. It may be asked at any time.
func (r *Run) SourceExhausted() bool { return r.sourceEnded.Load() }

// Received is how many deliveries the source has handed over so far.
func (r *Run) ReceivedCount() int64 { return r.inFlight.total() }

// Out is how many deliveries have been received and not been settled.
func (r *Run) InFlight() int64 { return r.inFlight.count() }

// Running returns how many tasks run. Fetched tasks that are about to start count as running.
func (r *Run) Running() int64 {
	unended, _ := r.inFlight.counts()
	return min(unended, int64(r.opts.Slots))
}

// Unreported returns how many tasks have ended but are not settled yet, because their events
// have not been written.
func (r *Run) Unreported() int64 {
	_, ended := r.inFlight.counts()
	return ended
}

// StopCause returns the argument of the first call of StopFetching, Stop, Fail or Kill, or nil.
func (r *Run) StopCause() error {
	if r.phases.Fetch.Err() == nil {
		return nil
	}
	if cause := context.Cause(r.phases.Fetch); !errors.Is(cause, errFinished) {
		return cause
	}
	return nil
}

// buffer is how many items may wait between two stages: with it, no stage waits
// for the next one to look. Credits bound how many there are before the execution;
// after it, where a sink that is far away cannot be reached, this does.
func (r *Run) buffer() int {
	if r.opts.SharedSource {
		return 32
	}
	return maxFetch
}

func (r *Run) phaseOf(p position) context.Context {
	if p == beforeRun {
		return r.phases.Fetch
	}
	return r.phases.Settle
}

// goStage runs body as the stage of that name.
func (r *Run) goStage(name string, p position, body func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting {
		panic("pipeline: stage " + name + " was added after Wait")
	}
	st := &stageState{name: name}
	r.stages = append(r.stages, st)
	group := &r.telling
	if p == beforeRun {
		group = &r.working
	}
	group.Go(func() {
		defer st.done.Store(true)
		if err := recovered(body); err != nil {
			st.err = &StageError{Stage: name, Err: err}
		}
	})
}

// ReleaseAsync has a delivery that will not be run here released, at once and without
// waiting for it; the run does. A failure is logged and no more: the lease runs out
// by itself.
func (d *Delivery) ReleaseAsync() {
	if d.inFlight == nil || d.inFlight.giveBack == nil {
		_ = d.Release(context.Background(), 0) // outside a run there is nobody to tell
		return
	}
	d.inFlight.giveBack(d)
}

// giveBack is called by stages alone, so that telling has not come to its end.
func (r *Run) releaseAsync(d *Delivery) {
	release := func() {
		if err := recovered(func() error { return d.Release(r.phases.Settle, 0) }); err != nil {
			r.opts.Log.Warn().Err(err).Str("task_id", d.Task.ID).Int("attempt", d.Attempt).
				Msg("could not release the task; it becomes available when its lease expires")
		}
	}
	if d.ExpiresAt().IsZero() { // nobody else waits for it
		release()
		return
	}
	r.telling.Go(release)
}

// errOver is the cause with which Wait ends the phases of a run that is over.
var errFinished = errors.New("the run is over")

// ShutdownTimeoutError says what had not ended when a run gave up waiting.
type ShutdownTimeoutError struct {
	// Stages are those that had not returned.
	Stages []string
	// Tasks are the ids of up to ten tasks that were not settled; Unsettled is
	// how many there were in all.
	Tasks     []string
	Unsettled int
}

// Error names the stages and tasks.
func (e *ShutdownTimeoutError) Error() string {
	return fmt.Sprintf("gave up waiting for %q with %d tasks unsettled (%q)", e.Stages, e.Unsettled, e.Tasks)
}
