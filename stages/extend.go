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

	"github.com/ctworker/ctworker/pipeline"
)

// ExtendOptions configures an Extender. The zero value works.
type ExtendOptions struct {
	// Lease is the duration of a lease after each renewal. If the worker dies, its tasks
	// become available again within this time. Defaults to 60 s.
	LeaseDuration time.Duration
	// Most is the maximum time to hold a task. After that its lease is not renewed; when it
	// expires, the delivery is marked Lost. It must be longer than queueing plus execution
	// can take. Defaults to 0, which means no limit.
	MaxHold time.Duration
	// Patience is the maximum time a delivery waits for the next stage. After that Stall is
	// called, and all waiting deliveries are released for other workers. The stage must be
	// added with pipeline.ViaUnbuffered. Defaults to 0, which disables it.
	MaxQueueTime time.Duration
	// Stall is called before the waiting deliveries are released. Pass the Run's Stall. It is
	// required with Patience.
	OnStall func()
	// Failed is called once, with the source's reason, if the source keeps refusing
	// renewals (pipeline.ErrRefused): for half of Lease without a successful renewal, or
	// until a lease expires. It is also called if the renewing panics. Pass the Run's Fail:
	// running tasks may finish within their leases, but the lease of a new task could not be
	// renewed. Defaults to nil, which only logs the error.
	OnPermanentError func(error)
	// Log receives failed renewals and lost leases.
	Log zerolog.Logger
}

// An Extender renews the leases of the tasks that pass through its stage until each is
// settled: while it waits for a slot, runs and is reported. It renews a lease when about half
// of it has passed, with some jitter, and retries failed and refused renewals while the lease
// holds. If a lease expires, or the source reports that it is lost, the delivery is marked
// Lost.
//
// It works with every source; leases that never expire cost nothing. A source that renews in
// batches collects the renewals of a few milliseconds.
type Extender struct {
	opts   ExtendOptions
	ctx    context.Context // of the renewals; ends with Close
	cancel context.CancelFunc

	mu       sync.Mutex
	closed   bool
	refused  time.Time // when renewals began to be refused; zero if they are not
	refusal  error     // last refusal; nil if renewals are not refused
	failed   bool      // Failed has been called
	renewing sync.WaitGroup
}

// NewExtender returns an Extender. Close it when the run has ended: leases are kept
// to the very end.
func NewExtender(opts ExtendOptions) *Extender {
	if opts.LeaseDuration <= 0 {
		opts.LeaseDuration = time.Minute
	}
	x := &Extender{opts: opts}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	return x
}

// Close ends the renewing, and returns when none is under way.
func (x *Extender) Close() {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.cancel()
	x.renewing.Wait()
}

// Stage passes tasks on in their order, and keeps their leases from then on. It
// takes each at once, however long it waits behind it, so that none waits with a
// lease that nobody keeps: how many there can be is the run's to bound.
func (x *Extender) Stage() pipeline.Stage[*pipeline.Delivery, *pipeline.Delivery] {
	return func(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- *pipeline.Delivery) error {
		var waiting []*pipeline.Delivery
		giveBack := func() {
			for _, d := range waiting {
				d.ReleaseAsync()
			}
			waiting = nil
		}
		defer giveBack()
		maxWait := time.NewTimer(time.Hour)
		defer maxWait.Stop()
		progress := func() { // nothing has been waiting for long
			if x.opts.MaxQueueTime > 0 {
				maxWait.Reset(x.opts.MaxQueueTime)
			}
		}
		for in != nil || len(waiting) > 0 {
			var next *pipeline.Delivery
			var send chan<- *pipeline.Delivery
			if len(waiting) > 0 {
				next, send = waiting[0], out
			}
			select {
			case d, ok := <-in:
				if !ok {
					in = nil
					continue
				}
				x.keep(d)
				if waiting = append(waiting, d); len(waiting) == 1 {
					progress()
				}
			case send <- next:
				waiting[0] = nil
				waiting = waiting[1:]
				progress()
			case <-maxWait.C:
				if x.opts.MaxQueueTime > 0 && len(waiting) > 0 {
					x.opts.Log.Debug().Int("tasks", len(waiting)).Msg("released prefetched tasks: running tasks are slow")
					x.opts.OnStall()
					giveBack()
				}
			case <-ctx.Done():
				return nil
			}
		}
		return nil
	}
}

// Patience is how long what has been fetched ahead of a shared source waits for a
// slot: longer than a run that goes as it has gone would have it wait.
const MaxQueueTime = 5 * time.Second

// keep keeps a delivery's lease until it is settled.
func (x *Extender) keep(d *pipeline.Delivery) {
	if d.ExpiresAt().IsZero() {
		return
	}
	k := &leaseRenewer{x: x, d: d, began: time.Now()}
	d.OnSettled(k.stop)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.schedule(k.renewDelay())
}

// leaseRenewer renews one lease. It has a goroutine, that of its timer, only while it renews.
type leaseRenewer struct {
	x     *Extender
	d     *pipeline.Delivery
	began time.Time
	tries int // failed attempts since the last renewal; only renew uses it

	mu      sync.Mutex
	stopped bool
	timer   *time.Timer        // the next renewal
	cancel  context.CancelFunc // of the one that is under way; nil: none is
	ended   chan struct{}      // closed when that has returned
}

// stop ends the keeping, and returns when no renewal is under way: one that came to
// the source after what follows, such as a release, would undo it.
func (k *leaseRenewer) stop() {
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

// begin says that a renewal is under way, unless the keeping has ended.
func (k *leaseRenewer) begin(cancel context.CancelFunc) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return false
	}
	k.cancel, k.ended = cancel, make(chan struct{})
	return true
}

func (k *leaseRenewer) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.ended)
	k.cancel = nil
}

// schedule has it renewed after a while. The caller holds mu.
func (k *leaseRenewer) schedule(after time.Duration) {
	if !k.stopped {
		k.timer = time.AfterFunc(after, k.renew)
	}
}

// untilHalf is the time to the next renewal, where all is well: between 40 and 60 %
// of what is left of the lease.
func (k *leaseRenewer) renewDelay() time.Duration {
	return max(time.Duration((0.4+0.2*rand.Float64())*float64(k.d.RemainingLease())), 0)
}

// initialRetryDelay is about how long after a renewal that failed the next one is tried;
// then twice as long, and so on, but at least four times before the lease's end.
const initialRetryDelay = 250 * time.Millisecond

func (k *leaseRenewer) retryDelay() time.Duration {
	k.tries++
	wait := initialRetryDelay << min(k.tries-1, 10)
	wait = min(wait, max(k.d.RemainingLease()/4, initialRetryDelay))
	return wait/2 + rand.N(wait)
}

// renew renews the lease, or marks the delivery Lost if it has expired. The timer calls it.
func (k *leaseRenewer) renew() {
	x := k.x
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return
	}
	x.renewing.Add(1)
	x.mu.Unlock()
	defer x.renewing.Done()
	var after time.Duration
	var again bool
	if p := panics.Try(func() { after, again = k.renewOnce() }); p != nil {
		x.fail(fmt.Errorf("renew leases: %w", p.AsError()))
		return
	}
	if again {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.schedule(after)
	}
}

// renewOnce renews the lease. It returns whether to call it again, and after how long.
func (k *leaseRenewer) renewOnce() (after time.Duration, again bool) {
	x, d := k.x, k.d
	left := d.RemainingLease() // also counts time in which this process or the machine was suspended
	if over := time.Since(k.began); x.opts.MaxHold > 0 && over > x.opts.MaxHold {
		if left > 0 {
			return left, true
		}
		k.lose(fmt.Errorf("the task was held for %v, longer than the maximum of %v", over.Round(time.Second), x.opts.MaxHold))
		return 0, false
	}
	ctx, cancel := context.WithTimeout(x.ctx, max(left, 0))
	defer cancel()
	if !k.begin(cancel) {
		return 0, false
	}
	defer k.end()
	_, err := d.Extend(ctx, x.opts.LeaseDuration)
	switch {
	case d.Settled() && err != nil || x.ctx.Err() != nil:
		return 0, false
	case err == nil:
		x.renewed()
		k.tries = 0
		return k.renewDelay(), true
	case errors.Is(err, pipeline.ErrLeaseLost):
		k.lose(err)
		return 0, false
	case errors.Is(err, pipeline.ErrPermanent):
		x.refuse(d, err)
	}
	if d.RemainingLease() <= 0 {
		k.lose(fmt.Errorf("could not be renewed: %w", err))
		return 0, false
	}
	if !errors.Is(err, pipeline.ErrPermanent) {
		x.log(d, err).Float64("left_seconds", d.RemainingLease().Seconds()).Msg("could not renew the lease; retrying")
	}
	return k.retryDelay(), true
}

// renewed records a successful renewal.
func (x *Extender) renewed() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.refused, x.refusal = time.Time{}, nil
}

// refuse records a refused renewal, and calls fail if renewals have been refused for too long.
func (x *Extender) refuse(d *pipeline.Delivery, err error) {
	now := time.Now()
	x.mu.Lock()
	first := x.refusal == nil
	if first {
		x.refused = now
	}
	x.refusal = err
	lasts := now.Sub(x.refused)
	x.mu.Unlock()
	if first { // once, because every task gets the same response
		x.log(d, err).Msg("source refuses lease renewals; retrying while the leases hold")
	}
	if lasts >= x.opts.LeaseDuration/2 {
		x.fail(refusedError(err))
	}
}

// lapsed calls fail if a lease was lost while the source refuses renewals.
func (x *Extender) lapsed() {
	x.mu.Lock()
	refusal := x.refusal
	x.mu.Unlock()
	if refusal != nil {
		x.fail(refusedError(refusal))
	}
}

func refusedError(err error) error {
	return fmt.Errorf("source keeps refusing lease renewals: %w", err)
}

// fail calls Failed, once.
func (x *Extender) fail(err error) {
	x.mu.Lock()
	first := !x.failed
	x.failed = true
	x.mu.Unlock()
	switch {
	case !first:
	case x.opts.OnPermanentError != nil:
		x.opts.OnPermanentError(err)
	default:
		x.opts.Log.Error().Err(err).Msg("could not renew leases")
	}
}

func (k *leaseRenewer) lose(cause error) {
	k.d.MarkLeaseLost(cause)
	if k.d.ReportLoss() {
		k.x.log(k.d, cause).Msg("lease lost: the task may run elsewhere and is stopped here")
	}
	k.x.lapsed()
}

func (x *Extender) log(d *pipeline.Delivery, err error) *zerolog.Event {
	return x.opts.Log.Warn().Err(err).Str("task_id", d.Task.ID).Int("attempt", d.Attempt)
}
