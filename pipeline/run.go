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
	"github.com/ctworker/ctworker/internal/prefetch"
)

// Options configures a Run. The zero value works.
type Options struct {
	// Slots is the maximum number of tasks that run at the same time. Defaults to 1.
	Slots int
	// Prefetch is the minimum number of tasks to fetch in addition to Slots, so that a free slot
	// need not wait for the source. The Run fetches more when tasks have proved to be short. Leave
	// Prefetch 0 if other workers consume the same source (see Hints): prefetched tasks would wait
	// although another worker is free. Defaults to 0.
	Prefetch int
	// MaxDeliveries is the maximum number of deliveries to fetch, including those that a stage
	// skips. The Run sends no request after the last of these deliveries. Defaults to nil, which
	// means no limit.
	MaxDeliveries *int64
	// IdleTimeout is the idle time after which the run ends as if the source were exhausted. The
	// run is idle while no delivery is in flight and the source has no tasks. Time during which the
	// source is unreachable does not count (see HealthReporter). Defaults to 0, which disables the
	// timeout.
	IdleTimeout time.Duration
	// GracePeriod is how long running tasks may continue after Stop before they are terminated.
	// Defaults to 0.
	GracePeriod time.Duration
	// KillDelay is the time between terminating and killing tasks. Defaults to 0.
	KillDelay time.Duration
	// SettleTimeout limits the time to report and settle after the last task has ended. After Stop
	// the limit is at most 5 s, and after Kill at most 1 s, because the user waits for the worker
	// to exit. Defaults to 30 s.
	SettleTimeout time.Duration
	// UnreachableTimeout is the time without a response from a provider after which the run fails
	// with ErrUnreachable. It applies to the provider of the source, and to the provider of
	// each sink passed to WatchSink, while requests are pending. Defaults to 0, which disables the
	// timeout.
	UnreachableTimeout time.Duration
	// OnStop is called once with the cause when the run is stopped, before the grace period begins.
	// Use it to notify running tasks. May be nil.
	OnStop func(cause error)
	// OnFail is called with the error of the first call of Fail. If OnFail is nil, the error is
	// logged. In both cases Wait returns the error, too.
	OnFail func(err error)
	// Log receives errors that do not end the run. Defaults to a disabled logger.
	Log zerolog.Logger
}

// Validate returns an error that lists every invalid field, or nil. New does not call Validate: it
// replaces invalid values by defaults.
func (o Options) Validate() error {
	errs := []error{
		optcheck.NotNegative("Slots", o.Slots), optcheck.NotNegative("Prefetch", o.Prefetch),
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
	if o.SettleTimeout <= 0 {
		o.SettleTimeout = 30 * time.Second
	}
	return o
}

// Phases are the contexts of a run. They become done in the order of the fields.
type Phases struct {
	// Fetch is done when StopFetching, Stop, Fail or Kill ends the fetching, or a stage fails. Fetched
	// deliveries that have not started are then released. Fetch is not done when the source is
	// exhausted or returns an error: the fetched deliveries are then executed.
	Fetch context.Context
	// Shutdown is done when a shutdown is requested. The grace period of running tasks begins then.
	Shutdown context.Context
	// Terminate is done when the grace period is over. Running tasks must then be terminated
	// (SIGTERM).
	Terminate context.Context
	// Kill is done when the kill delay is over. Running tasks must then be killed (SIGKILL).
	Kill context.Context
	// Settle is done when the time to report and settle is over.
	Settle context.Context
	// Close is done when the time to close the source and the sinks is over. That time begins when
	// the last task has ended. The context may still be active when Wait returns, so that the
	// caller can use it to close its own resources.
	Close context.Context
}

// Run is one execution of a pipeline. Create a Run with New, add the stages with From, Via and To,
// then call Wait.
type Run struct {
	opts   Options
	phases Phases
	// Each end function cancels the phase in its name.
	endFetch, endShutdown, endTerminate, endKill, endSettle, endClose context.CancelCauseFunc

	unhook func() bool // detaches the run from the parent context

	inFlight    *inFlight
	prefetch    *prefetch.Controller
	source      Source
	sourceEnded atomic.Bool

	executing conc.WaitGroup // the stages up to and including the execution
	reporting conc.WaitGroup // the stages after the execution, and asynchronous releases

	reach reachability // whether the provider of the source responds

	mu        sync.Mutex
	stages    []*stageState
	outputs   []*output
	waiting   bool
	failure   error                 // argument of the first call of Fail
	urgency   urgency               // see shutdown.go
	abandoned *shutdownTimeoutError // what had not ended at the end of the time to settle, or nil
	settleBy  *limit                // time limit of the Settle phase; nil while tasks run
	closeBy   *limit                // time limit of the Close phase; nil while tasks run
	sinks     []*watchedSink
	onEnd     []func() // see plumbing.Run.OnEnd
}

// stageState is a stage of a run. Stages are numbered from 1 in the order in which they are added.
type stageState struct {
	name     string
	position int32
	input    int32 // position of the stage that sends to this one, or 0 for the source
	queue    queue // the input, or nil for the source
	done     atomic.Bool
	err      error // valid when done is true

	// longTerm states that deliveries in this stage do not indicate a stall: either the stage holds
	// them for a long time on purpose, or their tasks no longer occupy slots, so the run can
	// continue.
	longTerm atomic.Bool
}

// HoldsDeliveries implements plumbing.Stage.
func (s *stageState) HoldsDeliveries() { s.longTerm.Store(true) }

// newStage adds a stage. The caller must start the stage with goStage.
func (r *Run) newStage(name string, before *stageState, q queue) *stageState {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting {
		panic("pipeline: the stage " + name + " was added after Wait: add all stages before")
	}
	st := &stageState{name: name, position: int32(len(r.stages) + 1), queue: q}
	if before != nil {
		st.input = before.position
	}
	r.stages = append(r.stages, st)
	return st
}

// New returns a run without stages. When ctx is done, the run stops as after a call of Stop. The
// contexts of the stages contain the values of ctx. Canceling ctx is not an error; to end the run
// with an error, call Fail.
func New(ctx context.Context, opts Options) *Run {
	opts = opts.withDefaults()
	demand := prefetch.New(prefetch.Config{Slots: opts.Slots, Min: opts.Prefetch})
	r := &Run{opts: opts, prefetch: demand, inFlight: newInFlight(demand)}
	r.inFlight.releaseAsync = r.releaseAsync
	r.inFlight.reach = &r.reach
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

// Status is the current state of a run.
type Status struct {
	// Received is the number of deliveries received from the source so far.
	Received int64
	// InFlight is the number of deliveries that have been received but not settled.
	InFlight int64
	// Running is the number of running tasks. Fetched tasks that are about to start count, too.
	Running int64
	// Unreported is the number of tasks that have ended but are not settled yet, usually because
	// their events have not been written.
	Unreported int64
	// Unsettled is the number of tasks that were not settled when the time to settle was over. The
	// outcomes of these tasks may be lost, and the tasks become available when their leases expire.
	// Unsettled is 0 before that time.
	Unsettled int
	// SourceExhausted reports whether the source has no further tasks, or has been idle for
	// Options.IdleTimeout.
	SourceExhausted bool
}

// Status returns the current state of the run. It may be called at any time, also after Wait.
func (r *Run) Status() Status {
	s := Status{Received: r.inFlight.total(), SourceExhausted: r.sourceEnded.Load()}
	unended, ended := r.inFlight.counts()
	s.InFlight, s.Running, s.Unreported = unended+ended, min(unended, int64(r.opts.Slots)), ended
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.abandoned != nil {
		s.Unsettled = r.abandoned.unsettled
	}
	return s
}

// StopCause returns the argument of the first call of StopFetching, Stop, Fail or Kill. If there
// was no call, it returns nil.
func (r *Run) StopCause() error {
	if r.phases.Fetch.Err() == nil {
		return nil
	}
	if cause := context.Cause(r.phases.Fetch); !errors.Is(cause, errFinished) {
		return cause
	}
	return nil
}

// bufferFor returns the capacity of the output of a stage. Deliveries of a shared source do not wait
// in a channel between two stages, because the stage that extends leases must be able to release
// deliveries that wait for too long.
func (r *Run) bufferFor(p position) int {
	if p == beforeRun && r.prefetch.Shared() {
		return 0
	}
	return r.buffer()
}

// buffer returns the capacity of the channel between two stages. The capacity is large enough that
// a stage rarely blocks on the next one. Before the execution, credits limit the number of items in
// flight (see package prefetch). After the execution, the capacity of the channels limits the
// number of items, for example while the sink is unreachable.
func (r *Run) buffer() int {
	if r.prefetch.Shared() {
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

// goStage runs body in a goroutine as the stage st.
func (r *Run) goStage(st *stageState, p position, body func() error) {
	group := &r.reporting
	if p == beforeRun {
		group = &r.executing
	}
	group.Go(func() {
		defer st.done.Store(true)
		if err := recovered(body); err != nil {
			st.err = &StageError{Stage: st.name, Err: err}
		}
	})
}

// ReleaseAsync releases a delivery that this worker will not execute. It does not block, but the
// run does not end before the release is complete. If the release fails, the error is logged, and
// the task becomes available when its lease expires.
func (d *Delivery) ReleaseAsync() {
	if d.inFlight == nil || d.inFlight.releaseAsync == nil {
		_ = d.Release(context.Background(), 0) // without a run, there is no logger for the error
		return
	}
	d.inFlight.releaseAsync(d)
}

// releaseAsync implements Delivery.ReleaseAsync. It may start a goroutine in the group reporting
// although Wait waits for that group. That is safe because only stages call releaseAsync, and Wait
// waits for the stages first.
func (r *Run) releaseAsync(d *Delivery) {
	release := func() {
		if err := recovered(func() error { return d.Release(r.phases.Settle, 0) }); err != nil {
			r.opts.Log.Warn().Err(err).Str("task_id", d.Task.ID).Int("attempt", d.Attempt).
				Msg("could not release the task; it becomes available when its lease expires")
		}
	}
	if !d.leased { // Release does not block, because the lease never expires
		release()
		return
	}
	r.reporting.Go(release)
}

// errFinished is the cause of the phases that Wait cancels at the end of a run.
var errFinished = errors.New("the run has ended")

// shutdownTimeoutError lists the stages and tasks that had not ended when the time to report and
// settle was over.
type shutdownTimeoutError struct {
	stages    []string // names of the stages that had not returned
	unsettled int      // number of tasks that were not settled
	tasks     []string // IDs of at most maxListed of these tasks
}

func (e *shutdownTimeoutError) Error() string {
	return fmt.Sprintf("gave up waiting for the stages %q because the time to report and settle tasks is over: %d tasks are not settled and may run again (%q)", e.stages, e.unsettled, e.tasks)
}
