package stages

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/internal/plumbing"
	"github.com/ctworker/ctworker/internal/prefetch"
	"github.com/ctworker/ctworker/pipeline"
)

// ExtendOptions configures Extend. The zero value works.
type ExtendOptions struct {
	// LeaseDuration is the duration of a lease after each extension. If the worker dies,
	// its tasks become available again within this time. Defaults to 60 s.
	LeaseDuration time.Duration
	// MaxHold is the time after which this worker no longer extends the lease on a task. When the
	// lease then expires, the task is killed and becomes available to other workers. Set MaxHold
	// longer than a task can wait and run. Defaults to 0, which means no limit.
	MaxHold time.Duration
	// Stats counts the extensions. May be nil.
	Stats *Stats
	// Log receives failed extensions and lost leases.
	Log zerolog.Logger
}

// Validate returns an error that lists every invalid field, or nil.
func (o ExtendOptions) Validate() error {
	return optcheck.Join("stages.ExtendOptions",
		optcheck.NotNegative("LeaseDuration", o.LeaseDuration), optcheck.NotNegative("MaxHold", o.MaxHold))
}

// Extend returns a stage that extends the lease of each task that passes through it, until the task
// is settled. That includes the time while the task waits for a slot, runs, and waits to be
// reported. Add the stage with pipeline.Via, before the execution.
//
// A lease is extended when about half of it has passed. Jitter spreads the requests of leases that
// begin at the same time. Failed and refused extensions are retried until the lease expires. The
// delivery is marked lost if its lease expires, or if the source reports that the lease is lost. If
// the source keeps refusing extensions (pipeline.ErrPermanent) for half of LeaseDuration, or until
// a lease expires, the run fails as after a call of Run.Fail: it stops fetching, and running tasks
// may continue until their leases expire.
//
// The stage does nothing for leases that never expire. A source may combine extensions that are
// requested within a few milliseconds into one request.
//
// If the source is shared with other workers (see pipeline.Hints), deliveries that have waited for a
// slot for 5 s are released.
func Extend(run *pipeline.Run, opts ExtendOptions) pipeline.Stage[*pipeline.Delivery, *pipeline.Delivery] {
	p := run.Plumbing()
	x := newExtender(opts, p.Prefetch(), run.Fail)
	p.OnEnd(x.close) // leases must be extended until the last task is settled
	return x.stage
}

// extender is the state of one Extend stage.
type extender struct {
	opts     ExtendOptions
	prefetch *prefetch.Controller
	onError  func(error)     // called once, with the reason why leases cannot be extended
	ctx      context.Context // context of all extensions; canceled by close
	cancel   context.CancelFunc

	mu        sync.Mutex
	closed    bool
	refused   time.Time // time of the first refused extension since the last successful extension, or zero
	refusal   error     // error of the last extension if the source refused it, or nil
	reported  bool      // onError has been called
	extending sync.WaitGroup
}

func newExtender(opts ExtendOptions, p *prefetch.Controller, onError func(error)) *extender {
	if opts.LeaseDuration <= 0 {
		opts.LeaseDuration = time.Minute
	}
	x := &extender{opts: opts, prefetch: p, onError: onError}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	return x
}

// close stops extending leases. It waits until no extension is in flight.
func (x *extender) close() {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.cancel()
	x.extending.Wait()
}

// stage passes deliveries on in order, and starts to extend their leases.
//
// It receives each delivery immediately, even if the next stage is not ready, because nothing would
// extend the lease of a delivery that waits in a channel. The credits of the run limit the number
// of waiting deliveries.
func (x *extender) stage(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[*pipeline.Delivery]) error {
	plumbing.HoldsDeliveries(ctx)
	limit := x.prefetch.MaxQueueTime()
	var waiting []*pipeline.Delivery
	releaseAll := func() {
		for _, d := range waiting {
			d.ReleaseAsync()
		}
		waiting = nil
	}
	defer releaseAll()
	overdue := time.NewTimer(time.Hour)
	defer overdue.Stop()
	resetOverdue := func() {
		if limit > 0 {
			overdue.Reset(limit)
		}
	}
	for in != nil || len(waiting) > 0 {
		var next *pipeline.Delivery
		var send chan<- *pipeline.Delivery
		if len(waiting) > 0 {
			next = waiting[0]
			send = out.Offer(next)
		}
		select {
		case d, ok := <-in:
			if !ok {
				in = nil
				continue
			}
			x.track(d)
			if waiting = append(waiting, d); len(waiting) == 1 {
				resetOverdue()
			}
		case send <- next:
			waiting[0] = nil
			waiting = waiting[1:]
			resetOverdue()
		case <-overdue.C:
			if limit > 0 && len(waiting) > 0 {
				x.opts.Log.Debug().Int("task_count", len(waiting)).Msg("released prefetched tasks to other workers because no slot became free in time")
				x.prefetch.Stalled()
				releaseAll()
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// track starts to extend the lease of a delivery. The extension ends when the delivery is settled.
func (x *extender) track(d *pipeline.Delivery) {
	if d.Plumbing().ExpiresAt().IsZero() {
		return
	}
	k := &trackedLease{x: x, d: d, began: time.Now()}
	d.Plumbing().OnSettled(k.stop)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.schedule(k.extendDelay())
}

// trackedLease extends one lease. Its timer calls extend in a goroutine. These calls do not
// overlap.
type trackedLease struct {
	x     *extender
	d     *pipeline.Delivery
	began time.Time
	tries int // failed attempts since the last extension; accessed only by the goroutine of the timer

	mu      sync.Mutex
	stopped bool
	timer   *time.Timer        // the next extension
	cancel  context.CancelFunc // cancels the extension in flight; nil if there is none
	ended   chan struct{}      // closed when the extension in flight has ended
}

// stop stops extending the lease, and waits until no extension is in flight. If an extension
// reached the source after a release, it would undo the release.
func (k *trackedLease) stop() {
	k.mu.Lock()
	k.stopped = true
	if k.timer != nil {
		k.timer.Stop()
	}
	cancel, ended := k.cancel, k.ended
	k.mu.Unlock()
	if cancel != nil {
		cancel()
		<-ended
	}
}

// begin records that an extension is in flight. If stop has been called, begin returns false, and
// the caller must not start the extension.
func (k *trackedLease) begin(cancel context.CancelFunc) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return false
	}
	k.cancel, k.ended = cancel, make(chan struct{})
	return true
}

func (k *trackedLease) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.ended)
	k.cancel = nil
}

// schedule starts the timer of the next extension. The caller holds k.mu.
func (k *trackedLease) schedule(after time.Duration) {
	if !k.stopped {
		k.timer = time.AfterFunc(after, k.extend)
	}
}

// extendDelay returns the time from a successful extension to the next one: between 40 and 60 % of
// the remaining lease.
func (k *trackedLease) extendDelay() time.Duration {
	return max(time.Duration((0.4+0.2*rand.Float64())*float64(k.d.Plumbing().RemainingLease())), 0)
}

// initialRetryDelay is the average delay after the first failed extension. The delay doubles with
// each further failure, but is limited to a quarter of the remaining lease if that is longer than
// initialRetryDelay. Jitter changes each delay by up to 50 %.
const initialRetryDelay = 250 * time.Millisecond

func (k *trackedLease) retryDelay() time.Duration {
	k.tries++
	wait := initialRetryDelay << min(k.tries-1, 10)
	wait = min(wait, max(k.d.Plumbing().RemainingLease()/4, initialRetryDelay))
	return wait/2 + rand.N(wait)
}

// extend extends the lease and schedules the next extension. If the lease has expired, extend marks
// the delivery lost. The timer calls extend.
func (k *trackedLease) extend() {
	x := k.x
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return
	}
	x.extending.Add(1)
	x.mu.Unlock()
	defer x.extending.Done()
	var after time.Duration
	var retry bool
	if p := panics.Try(func() { after, retry = k.extendOnce() }); p != nil {
		x.fail(fmt.Errorf("extend leases: %w", p.AsError()))
		return
	}
	if retry {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.schedule(after)
	}
}

// extendOnce tries to extend the lease once. retry reports whether extendOnce must be called again;
// after is the delay before that call.
func (k *trackedLease) extendOnce() (after time.Duration, retry bool) {
	x, d := k.x, k.d
	remaining := d.Plumbing().RemainingLease()
	if held := time.Since(k.began); x.opts.MaxHold > 0 && held > x.opts.MaxHold {
		if remaining > 0 {
			return remaining, true
		}
		k.markLost(fmt.Errorf("this worker has held the task for %v, longer than the maximum of %v", held.Round(time.Second), x.opts.MaxHold))
		return 0, false
	}
	ctx, cancel := context.WithTimeout(x.ctx, max(remaining, 0))
	defer cancel()
	if !k.begin(cancel) {
		return 0, false
	}
	defer k.end()
	_, err := d.Extend(ctx, x.opts.LeaseDuration)
	switch {
	case d.Plumbing().Settled() && err != nil || x.ctx.Err() != nil:
		return 0, false
	}
	x.opts.Stats.extended(err)
	switch {
	case err == nil:
		x.extended()
		k.tries = 0
		return k.extendDelay(), true
	case errors.Is(err, pipeline.ErrLeaseLost):
		k.markLost(err)
		return 0, false
	case errors.Is(err, pipeline.ErrPermanent):
		x.refuse(d, err)
	}
	if d.Plumbing().RemainingLease() <= 0 {
		k.markLost(fmt.Errorf("the lease could not be extended: %w", err))
		return 0, false
	}
	if !errors.Is(err, pipeline.ErrPermanent) {
		x.log(d, err).Float64("remaining_seconds", d.Plumbing().RemainingLease().Seconds()).Msg("could not extend the lease on a task; retrying until the lease expires")
	}
	return k.retryDelay(), true
}

// extended records a successful extension.
func (x *extender) extended() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.refused, x.refusal = time.Time{}, nil
}

// refuse records that the source refused an extension. It calls fail if the source has refused all
// extensions for half of LeaseDuration.
func (x *extender) refuse(d *pipeline.Delivery, err error) {
	now := time.Now()
	x.mu.Lock()
	first := x.refusal == nil
	if first {
		x.refused = now
	}
	x.refusal = err
	duration := now.Sub(x.refused)
	x.mu.Unlock()
	if first { // log only the first refusal, because the source refuses the extensions of all tasks
		x.log(d, err).Msg("the queue refuses to extend the leases of running tasks; retrying until the leases expire")
	}
	if duration >= x.opts.LeaseDuration/2 {
		x.fail(refusalError(err))
	}
}

// onLeaseLost calls fail if a lease was lost because the source refuses extensions.
func (x *extender) onLeaseLost() {
	x.mu.Lock()
	refusal := x.refusal
	x.mu.Unlock()
	if refusal != nil {
		x.fail(refusalError(refusal))
	}
}

func refusalError(err error) error {
	return fmt.Errorf("the queue keeps refusing lease extensions: %w", err)
}

// fail calls onError on the first call, and does nothing after that.
func (x *extender) fail(err error) {
	x.mu.Lock()
	first := !x.reported
	x.reported = true
	x.mu.Unlock()
	if first {
		x.onError(err)
	}
}

func (k *trackedLease) markLost(cause error) {
	k.d.Plumbing().MarkLeaseLost(cause)
	if cause := k.d.Plumbing().ReportLoss(); cause != nil {
		k.x.log(k.d, cause).Msg("lease lost: another worker may run the task; if the task is still running, it is killed, and its result is discarded")
	}
	k.x.onLeaseLost()
}

func (x *extender) log(d *pipeline.Delivery, err error) *zerolog.Event {
	return x.opts.Log.Warn().Err(err).Str("task_id", d.Task.ID).Int("attempt", d.Attempt)
}
