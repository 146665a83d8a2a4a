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

	"github.com/ctworker/ctworker/internal/optcheck"
)

// Options configures a Run. The zero value works.
type Options struct {
	// Slots is the maximum number of tasks that run at the same time. Defaults to 1.
	Slots int
	// Prefetch is the number of tasks to fetch in addition to Slots, so that a free slot
	// need not wait for the source. Leave it 0 if other workers consume the same source and
	// tasks are long. Defaults to 0.
	Prefetch int
	// SharedSource reports that other workers consume the same source. Then the Run sets
	// the prefetch itself: one second's worth of tasks if tasks have proved to be short,
	// and Prefetch otherwise.
	SharedSource bool
	// FetchBatchSize is the number of deliveries that the source can return for the price
	// of one request, such as 10 for SQS. While enough prefetched tasks keep the slots
	// busy, the Run requests at least that many. Defaults to 1.
	FetchBatchSize int
	// MaxDeliveries is the maximum number of deliveries to fetch, including those that a
	// stage skips. The Run never requests more, so no request is in flight after the last
	// delivery. Defaults to nil, which means no limit.
	MaxDeliveries *int64
	// IdleTimeout ends the run, as if the source were exhausted, after the run has been
	// idle for this long: no delivery is in flight, and the source is reachable (see
	// HealthReporter) but has no tasks. Defaults to 0, which disables it.
	IdleTimeout time.Duration
	// GracePeriod is how long running tasks may continue after Stop. Then the Terminate phase ends.
	// Defaults to 0.
	GracePeriod time.Duration
	// KillDelay is the time from the end of the Terminate phase to the end of the Kill
	// phase. Defaults to 0.
	KillDelay time.Duration
	// SettleTimeout limits the time to report and settle after the last task has ended.
	// After Stop the limit is at most 5 s, and after Kill at most 1 s. Defaults to 30 s.
	SettleTimeout time.Duration
	// UnreachableTimeout fails the run with an UnreachableError after the provider of the
	// source, or of a sink passed to WatchSink, has not responded to any request for this
	// long. Defaults to 0, which disables it.
	UnreachableTimeout time.Duration
	// OnStop is called once with the cause when the run is stopped, before the grace
	// period. Use it to notify running tasks. May be nil.
	OnStop func(cause error)
	// OnFail is called with the error of the first Fail, which Wait also returns. Defaults
	// to nil, which logs the error.
	OnFail func(err error)
	// Log receives errors that do not end the run. Defaults to a disabled logger.
	Log zerolog.Logger
}

// Validate returns an error that lists every invalid field, or nil. New itself replaces
// invalid values by defaults.
func (o Options) Validate() error {
	errs := []error{
		optcheck.NotNegative("Slots", o.Slots), optcheck.NotNegative("Prefetch", o.Prefetch),
		optcheck.Between("FetchBatchSize", o.FetchBatchSize, 1, maxFetch),
		optcheck.NotNegative("IdleTimeout", o.IdleTimeout), optcheck.NotNegative("GracePeriod", o.GracePeriod),
		optcheck.NotNegative("KillDelay", o.KillDelay), optcheck.NotNegative("SettleTimeout", o.SettleTimeout),
		optcheck.NotNegative("UnreachableTimeout", o.UnreachableTimeout),
	}
	if o.MaxDeliveries != nil {
		errs = append(errs, optcheck.NotNegative("MaxDeliveries", *o.MaxDeliveries))
	}
	return optcheck.Join("pipeline.Options", errs...)
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

// Phases are the contexts of a run. They end in the order of the fields.
type Phases struct {
	// Fetch is done when the run stops fetching. Deliveries that have not started are
	// released.
	Fetch context.Context
	// Shutdown is done when a shutdown is requested. The grace period of running tasks
	// begins.
	Shutdown context.Context
	// Terminate is done when running tasks must be terminated (SIGTERM).
	Terminate context.Context
	// Kill is done when running tasks must be killed (SIGKILL).
	Kill context.Context
	// Settle is done when reporting and settling must be abandoned.
	Settle context.Context
	// Close is done when the run gives up closing the source and the sinks. It is still open after
	// Wait returns, for resources that the caller closes. Its time limit starts when the last task
	// has ended.
	Close context.Context
}

// Run is one execution of a pipeline. Create it with New, add its stages with From, Via and
// To, then call Wait.
type Run struct {
	opts   Options
	phases Phases
	// end* cancel the phase of that name.
	endFetch, endShutdown, endTerminate, endKill, endSettle, endClose context.CancelCauseFunc

	unhook func() bool // detaches the run from the parent context

	inFlight    *inFlight
	prefetch    prefetch
	source      Source
	sourceEnded atomic.Bool

	executing conc.WaitGroup // the stages before and including the execution
	reporting conc.WaitGroup // the stages after the execution, and asynchronous releases

	reach reachability // reachability of the source's provider

	mu        sync.Mutex
	stages    []*stageState
	outputs   []*output
	waiting   bool
	failure   error                 // first error of Fail
	urgency   urgency               // see shutdown.go
	abandoned *ShutdownTimeoutError // what had not ended at the time limit of the Settle phase
	settleBy  *limit                // ends the Settle phase; nil while tasks run
	closeBy   *limit                // ends the Close phase; nil while tasks run
	sinks     []*watchedSink
}

// stageState is the state of one stage.
type stageState struct {
	name string
	done atomic.Bool
	err  error // valid once done
}

// New returns a run without stages. If ctx is done, the run is stopped as by Stop. The
// values of ctx are passed to the stages. To end the run with an error, call Fail instead
// of canceling ctx.
func New(ctx context.Context, opts Options) *Run {
	opts = opts.withDefaults()
	r := &Run{opts: opts, inFlight: newInFlight(opts.Slots + opts.Prefetch)}
	r.inFlight.releaseAsync = r.releaseAsync
	r.inFlight.reach = &r.reach
	r.prefetch.target.Store(int64(opts.Prefetch))
	values := context.WithoutCancel(ctx)
	r.phases.Close, r.endClose = context.WithCancelCause(values)
	r.phases.Settle, r.endSettle = context.WithCancelCause(r.phases.Close)
	r.phases.Kill, r.endKill = context.WithCancelCause(values)
	r.phases.Terminate, r.endTerminate = context.WithCancelCause(r.phases.Kill)
	r.phases.Shutdown, r.endShutdown = context.WithCancelCause(r.phases.Terminate)
	r.phases.Fetch, r.endFetch = context.WithCancelCause(r.phases.Shutdown)
	r.unhook = context.AfterFunc(ctx, func() { r.Stop(context.Cause(ctx)) })
	return r
}

// Phases returns the run's contexts, for the stage that executes tasks.
func (r *Run) Phases() Phases { return r.phases }

// Slots returns the maximum number of tasks that run at the same time.
func (r *Run) Slots() int { return r.opts.Slots }

// SourceExhausted reports whether the source has no further tasks, or was idle for
// Options.IdleTimeout. It may be called at any time.
func (r *Run) SourceExhausted() bool { return r.sourceEnded.Load() }

// ReceivedCount returns the number of deliveries received from the source so far.
func (r *Run) ReceivedCount() int64 { return r.inFlight.total() }

// InFlight returns the number of deliveries that have been received but not settled.
func (r *Run) InFlight() int64 { return r.inFlight.count() }

// Running returns the number of running tasks. Fetched tasks that are about to start count
// as running.
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

// buffer returns the capacity of the channel between two stages. It is large enough that stages
// rarely block on each other. Before the execution, the credits limit the number of items. After
// it, this capacity does, for example while the sink is unreachable.
func (r *Run) buffer() int {
	if r.opts.SharedSource {
		return 32
	}
	return maxFetch
}

func (r *Run) contextFor(p position) context.Context {
	if p == beforeRun {
		return r.phases.Fetch
	}
	return r.phases.Settle
}

// goStage runs body as the stage with the given name.
func (r *Run) goStage(name string, p position, body func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting {
		panic("pipeline: stage " + name + " was added after Wait")
	}
	st := &stageState{name: name}
	r.stages = append(r.stages, st)
	group := &r.reporting
	if p == beforeRun {
		group = &r.executing
	}
	group.Go(func() {
		defer st.done.Store(true)
		if err := recovered(body); err != nil {
			st.err = &StageError{Stage: name, Err: err}
		}
	})
}

// ReleaseAsync releases a delivery that this worker will not execute. It does not block, but the
// run waits for the release. A failed release is logged, and the task becomes available when its
// lease expires.
func (d *Delivery) ReleaseAsync() {
	if d.inFlight == nil || d.inFlight.releaseAsync == nil {
		_ = d.Release(context.Background(), 0) // no run: the error cannot be logged
		return
	}
	d.inFlight.releaseAsync(d)
}

// releaseAsync implements Delivery.ReleaseAsync. Only stages call it, and the run waits for the
// stages before it waits for the group reporting.
func (r *Run) releaseAsync(d *Delivery) {
	release := func() {
		if err := recovered(func() error { return d.Release(r.phases.Settle, 0) }); err != nil {
			r.opts.Log.Warn().Err(err).Str("task_id", d.Task.ID).Int("attempt", d.Attempt).
				Msg("could not release the task; it becomes available when its lease expires")
		}
	}
	if d.ExpiresAt().IsZero() { // a trivial lease: Release does not block
		release()
		return
	}
	r.reporting.Go(release)
}

// errFinished is the cause with which Wait cancels the phases of a run that has ended.
var errFinished = errors.New("the run has ended")

// ShutdownTimeoutError reports what had not ended at the time limit of a run.
type ShutdownTimeoutError struct {
	// Stages are the names of the stages that had not returned.
	Stages []string
	// Tasks are the IDs of up to ten tasks that were not settled. Unsettled is their total
	// number.
	Tasks     []string
	Unsettled int
}

// Error returns the names of the stages and the IDs of the tasks.
func (e *ShutdownTimeoutError) Error() string {
	return fmt.Sprintf("gave up waiting for stages %q with %d tasks unsettled (%q)", e.Stages, e.Unsettled, e.Tasks)
}
