package queuepoll

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/pipeline"
)

// maxPolls is the maximum number of concurrent requests.
const maxPolls = 8

// A Poller takes tasks from a queue. It never ends by itself. Make it with New.
type Poller struct {
	opts Options

	ctx    context.Context // of the polls; ends with Close
	cancel context.CancelFunc
	polls  sync.WaitGroup

	wake chan struct{} // holds a token when a poll has ended

	mu             sync.Mutex
	receiving      bool // what arrives is for Receive, now or the next time; else it is released
	requested      int  // messages that the polls under way may bring
	maxRunning     int  // how many polls pay
	running        int  // how many are under way
	ready          []*pipeline.Delivery
	err            error // for good
	closed         bool
	stoppedAt      time.Time     // when receiving ended
	unreachable    int           // requests that cannot be made, or wait for too long
	lastFailureAt  time.Time     // when a request last was one of them
	averageLatency time.Duration // how long one takes that does not wait, on average
	pace           pace
}

// New returns a Poller.
func New(opts Options) *Poller {
	p := &Poller{opts: opts.withDefaults(), wake: make(chan struct{}, 1), maxRunning: 1}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Receive returns the tasks of the next messages; see pipeline.Source. It asks for as
// many as it may return, Options.Most at once, and for more at once while there are any.
//
// An error that is final, such as of a queue that is not there, ends it for good.
// Any other is tried again.
func (p *Poller) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	return p.ReceiveUntilIdle(ctx, limit, nil)
}

// ReceiveUntilIdle is like Receive, but returns pipeline.ErrIdle once the queue is idle; see
// pipeline.Idler. A request never waits more than about a second beyond the time that idleAt
// returned when the request began. ReceiveUntilIdle waits for open requests before it
// returns ErrIdle: a provider may deliver a message to a request whose caller is gone, and
// that message would be unavailable until its lease ends.
func (p *Poller) ReceiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) ([]*pipeline.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		left := p.opts.Wait + minWait
		if idleAt != nil {
			left = time.Until(idleAt()) // calls Unanswered, so mu must not be held
		}
		p.mu.Lock()
		if n := min(len(p.ready), limit); n > 0 {
			ds := p.ready[:n:n]
			p.ready = p.ready[n:]
			p.mu.Unlock()
			return ds, nil
		}
		if p.err != nil {
			defer p.mu.Unlock()
			return nil, p.err
		}
		pause, idle := p.pace.until(time.Now(), left, p.running)
		if idle {
			p.mu.Unlock()
			return nil, pipeline.ErrIdle
		}
		p.receiving = true
		for pause <= 0 && p.requested < limit && p.running < p.maxRunning {
			p.poll(min(limit-p.requested, p.opts.MaxBatchSize), min(p.opts.Wait, max(left, minWait)).Truncate(time.Second))
		}
		p.mu.Unlock()
		if !p.await(ctx, pause) {
			p.stopReceiving()
			return nil, ctx.Err()
		}
	}
}

// await waits until a poll has ended or, if pause is positive, until pause is over. It
// reports false if ctx ends first.
func (p *Poller) await(ctx context.Context, pause time.Duration) bool {
	var timeout <-chan time.Time
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-p.wake:
	case <-timeout:
	case <-ctx.Done():
		return false
	}
	return true
}

// poll starts a request for up to n messages. The caller holds mu.
func (p *Poller) poll(n int, wait time.Duration) {
	p.requested += n
	p.running++
	p.polls.Go(func() {
		var got received
		err := retry.Guard(func() (err error) { got, err = p.receive(n, wait); return err })
		p.mu.Lock()
		p.requested -= n
		if count := len(got.tasks) + len(got.malformed); count == n || count > 0 && p.opts.PartialBatches { // there may be more
			p.maxRunning = min(p.maxRunning+1, maxPolls)
		} else {
			p.maxRunning = 1
		}
		wanted := p.receiving && !p.closed
		if wanted {
			p.ready = append(p.ready, got.tasks...)
		}
		p.mu.Unlock()
		p.notify()
		if !wanted {
			release(got.tasks)
		}
		release(got.surplus)
		if reported := retry.Guard(func() error { return p.report(got.malformed) }); err == nil {
			err = reported
		}
		// Only after report has returned: nothing more is received while events cannot be written.
		p.mu.Lock()
		p.running--
		if err != nil && p.err == nil {
			p.err = err
		}
		p.mu.Unlock()
		p.notify()
	})
}

// arrive has Receive look again.
func (p *Poller) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// giveUp has nobody wait for what the polls may bring: it is released as it comes,
// and so is what has come.
func (p *Poller) stopReceiving() {
	p.mu.Lock()
	if p.receiving {
		p.receiving, p.stoppedAt = false, time.Now()
	}
	left := p.ready
	p.ready = nil
	p.mu.Unlock()
	release(left)
}

// release gives deliveries back that nobody has been handed.
func release(ds []*pipeline.Delivery) {
	var all sync.WaitGroup
	for _, d := range ds {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
			defer cancel()
			_ = d.Release(ctx, 0) // else its lease runs out
		})
	}
	all.Wait()
}

const releaseTimeout = 5 * time.Second

// received is what one request has brought.
type received struct {
	tasks     []*pipeline.Delivery
	malformed []malformed
	surplus   []*pipeline.Delivery // more than was requested
}

// malformed is a message that is not a task.
type malformed struct {
	*pipeline.Delivery // without a task
	body               string
	reason             error
}

// receive is one request, tried again until it succeeds, or cannot.
func (p *Poller) receive(n int, wait time.Duration) (got received, err error) {
	recovered := func() {}
	defer func() { recovered() }()
	attempt, failed := rand.Text(), false
	opts := retry.Options{Classify: p.opts.Classify, Action: p.opts.Action, Reporter: p.opts.Reporter, SuspectTime: p.opts.SuspectTime, SlowAfter: wait + p.opts.SlowAfter}
	var messages []Message
	err = retry.Do(p.ctx, opts, func() error {
		var err error
		if messages, err = p.request(n, wait, attempt); err != nil && !failed && p.ctx.Err() == nil {
			recovered, failed = p.markUnreachable(), true
		}
		return err
	})
	switch {
	case err == nil:
		return p.deliveries(messages, n), nil
	case p.ctx.Err() != nil:
		return received{}, nil
	}
	return received{}, p.opts.Explain(err)
}

// ask makes one request. One that is not answered in time is given up.
func (p *Poller) request(n int, wait time.Duration, attempt string) (messages []Message, err error) {
	ctx, cancel := context.WithTimeout(p.ctx, wait+p.opts.ReceiveTimeout)
	defer cancel()
	recovered := make(chan func(), 1)
	slow := time.AfterFunc(wait+p.opts.SlowAfter, func() { recovered <- p.markUnreachable() })
	defer func() {
		if !slow.Stop() {
			(<-recovered)()
		}
	}()
	began := time.Now()
	err = retry.Guard(func() (err error) { messages, err = p.opts.Receive(ctx, n, wait, attempt); return err })
	if err == nil {
		p.mu.Lock()
		p.pace.record(time.Now(), wait-time.Since(began), len(messages))
		p.mu.Unlock()
	}
	return messages, err
}

// notHeard says that a request cannot be made at the moment, until what it returns is
// called.
func (p *Poller) markUnreachable() (recovered func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unreachable++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.unreachable--
		p.lastFailureAt = time.Now()
	}
}

// Unanswered is when the queue last could not be asked; see pipeline.Prober.
func (p *Poller) LastFailure() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unreachable > 0 {
		return time.Now()
	}
	return p.lastFailureAt
}

// deliveries makes a delivery of each message. If the server sent more than the n requested
// messages, the others are surplus and are released, because there is no slot for them.
func (p *Poller) deliveries(messages []Message, n int) (got received) {
	for i, m := range messages {
		task, reason := pipeline.Task{ID: m.ID, Data: []byte(m.Body)}, error(nil)
		if i < n && !p.opts.Raw {
			task, reason = parse(m.Body)
		}
		d := pipeline.NewDelivery(task, m.Lease, min(max(m.Attempt, 1), maxAttempt))
		switch {
		case i >= n:
			got.surplus = append(got.surplus, d)
		case reason == nil:
			got.tasks = append(got.tasks, d)
		default:
			got.malformed = append(got.malformed, malformed{d, m.Body, reason})
		}
	}
	return got
}

// maxAttempt is the maximum accepted for a receive count that a server reports.
const maxAttempt = 1 << 30

// report calls Options.Malformed for each message, and acknowledges the reported ones.
func (p *Poller) report(messages []malformed) error {
	errs := make([]error, len(messages))
	var all sync.WaitGroup
	for i, m := range messages {
		all.Go(func() {
			errs[i] = retry.Guard(func() error { return p.reportOne(m) })
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (p *Poller) reportOne(m malformed) error {
	if p.opts.OnMalformed == nil {
		release([]*pipeline.Delivery{m.Delivery})
		return fmt.Errorf("%s: %w", p.opts.Provider, m.reason)
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.opts.Lease)
	defer cancel()
	err := p.opts.OnMalformed(ctx, m.body, m.reason)
	switch {
	case err == nil:
		if err := m.Ack(ctx); err != nil {
			p.opts.Log.Warn().Err(err).Msg("malformed message was reported but could not be deleted; it will be reported again")
		}
	case ctx.Err() != nil: // the lease or the run has ended
		p.opts.Log.Warn().Err(err).Msg("malformed message could not be reported in time; it will be delivered again")
		release([]*pipeline.Delivery{m.Delivery})
	default:
		release([]*pipeline.Delivery{m.Delivery})
		return fmt.Errorf("%s: report malformed message: %w", p.opts.Provider, err)
	}
	return nil
}

// Close ends the polls, and returns once what they have brought has been released.
// Close again does nothing.
func (p *Poller) Close(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stopReceiving()
	p.stopPolls(ctx)
}

// endPolls ends the polls. An answer that is on its way has some time to come: what
// it brings would else be hidden from others until its lease runs out.
func (p *Poller) stopPolls(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.polls.Wait()
	}()
	p.mu.Lock()
	wait := min(max(2*p.averageLatency, minSlowAfter), maxSlowAfter)
	if p.opts.WaitForOpenPolls {
		wait += p.opts.Wait
	}
	grace := time.NewTimer(time.Until(p.stoppedAt.Add(wait)))
	p.mu.Unlock()
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
	case <-ctx.Done():
	}
	p.cancel()
	<-ended
}

// An answer to a request that finds something has twice as long to come as others have
// taken, within these bounds.
const (
	minSlowAfter = 250 * time.Millisecond
	maxSlowAfter = 3 * time.Second
)

// Answered enters how long the queue has taken to answer what does not wait.
func (p *Poller) ObserveLatency(took time.Duration) {
	const weight = 8
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.averageLatency == 0 {
		p.averageLatency = took
	}
	p.averageLatency += (took - p.averageLatency) / weight
}
