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

// A Poller receives tasks from a queue. It is never exhausted. Create it with New.
type Poller struct {
	opts Options

	ctx    context.Context // of the polls; canceled by Close
	cancel context.CancelFunc
	polls  sync.WaitGroup

	wake chan struct{} // contains a token if the state below has changed

	mu             sync.Mutex
	receiving      bool // new deliveries are kept for Receive; if false, they are released
	requested      int  // total number of messages that the open polls have requested
	maxRunning     int  // maximum number of concurrent polls at the moment
	running        int  // number of open polls
	ready          []*pipeline.Delivery
	err            error // permanent
	closed         bool
	stoppedAt      time.Time     // when receiving became false
	unreachable    int           // number of requests that fail or are slow
	lastFailureAt  time.Time     // when unreachable was last decremented
	averageLatency time.Duration // moving average of the response time of requests that do not wait
	pace           pace
}

// New returns a Poller.
func New(opts Options) *Poller {
	p := &Poller{opts: opts.withDefaults(), wake: make(chan struct{}, 1), maxRunning: 1}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Receive returns the tasks of the next messages; see pipeline.Source. It requests up to
// limit messages, at most Options.MaxBatchSize per request, and sends more concurrent
// requests as long as the queue returns messages.
//
// Transient errors are retried. After a permanent error, such as a missing queue, this call and
// all further calls return that error.
func (p *Poller) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	return p.ReceiveUntilIdle(ctx, limit, nil)
}

// ReceiveUntilIdle is like Receive, but returns pipeline.ErrIdle when the queue is idle; see
// pipeline.Idler. idleAt is called before each request, and returns the time of the idle timeout. The
// request waits for messages until at most about one second after this time. ReceiveUntilIdle waits
// for open requests before it returns ErrIdle. If it canceled them instead, a provider could deliver a
// message to a canceled request, and the message would be unavailable until its lease expires.
func (p *Poller) ReceiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) ([]*pipeline.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		left := p.opts.Wait + minWait
		if idleAt != nil {
			left = time.Until(idleAt()) // calls LastFailure, so mu must not be held
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

// await waits until notify is called, or until pause has passed. A pause of 0 or less means no
// limit. await returns false if ctx ends first.
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
		// Decrement running after report: while events cannot be written, report blocks, and no
		// further messages must be received.
		p.mu.Lock()
		p.running--
		if err != nil && p.err == nil {
			p.err = err
		}
		p.mu.Unlock()
		p.notify()
	})
}

// notify wakes up Receive.
func (p *Poller) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// stopReceiving releases the deliveries that are ready, and makes the polls release the deliveries
// that arrive later.
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

// release releases deliveries that Receive has not returned.
func release(ds []*pipeline.Delivery) {
	var all sync.WaitGroup
	for _, d := range ds {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
			defer cancel()
			_ = d.Release(ctx, 0) // on an error, the lease expires
		})
	}
	all.Wait()
}

const releaseTimeout = 5 * time.Second

// received is the result of one request.
type received struct {
	tasks     []*pipeline.Delivery
	malformed []malformed
	surplus   []*pipeline.Delivery // of messages that exceed the requested number
}

// malformed is a malformed message.
type malformed struct {
	*pipeline.Delivery // its Task is empty
	body               string
	reason             error
}

// receive sends one request, and retries it until it succeeds or fails with a permanent
// error. If Close cancels the request, receive returns no error.
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

// request sends one request, and cancels it after wait plus ReceiveTimeout.
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

// markUnreachable records that a request fails or is slow. The caller must call recovered
// when the request has ended.
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

// LastFailure returns the time at which the queue was last unreachable; see
// pipeline.HealthReporter.
func (p *Poller) LastFailure() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unreachable > 0 {
		return time.Now()
	}
	return p.lastFailureAt
}

// deliveries converts the messages to deliveries. n is the number of requested messages. Deliveries
// of further messages become got.surplus, which the caller releases, because there is no slot for
// them.
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

// maxAttempt limits the receive count that a server reports.
const maxAttempt = 1 << 30

// report calls Options.OnMalformed for each message, and acknowledges the messages for which it
// returns nil.
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
			p.opts.Log.Warn().Err(err).Msg("malformed message was reported, but could not be deleted from the queue; it will be reported again")
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

// Close stops the polls and releases the messages that Receive has not returned. It waits a
// short time for open requests; see Options.WaitForOpenPolls. When this time is over, or if ctx ends
// first, Close cancels them. A second Close does nothing.
func (p *Poller) Close(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stopReceiving()
	p.stopPolls(ctx)
}

// stopPolls waits for open requests for a short time, and then cancels them. A message in a
// response that arrives after the cancellation would be unavailable until its lease expires.
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

// Close waits for open requests for twice the average response time, but at least minSlowAfter and at
// most maxSlowAfter.
const (
	minSlowAfter = 250 * time.Millisecond
	maxSlowAfter = 3 * time.Second
)

// ObserveLatency records the response time of a request that does not wait for messages.
func (p *Poller) ObserveLatency(took time.Duration) {
	const weight = 8
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.averageLatency == 0 {
		p.averageLatency = took
	}
	p.averageLatency += (took - p.averageLatency) / weight
}
