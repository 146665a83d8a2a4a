package poll

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/pipeline/again"
)

// mostPolls is how many requests are under way at once at most.
const mostPolls = 8

// A Poller takes tasks from a queue. It never ends by itself. Make it with New.
type Poller struct {
	opts Options

	ctx    context.Context // of the polls; ends with Close
	cancel context.CancelFunc
	polls  sync.WaitGroup

	arrived chan struct{} // holds a token when a poll has ended

	mu        sync.Mutex
	receiving bool // what arrives is for Receive, now or the next time; else it is released
	asked     int  // messages that the polls under way may bring
	width     int  // how many polls pay
	running   int  // how many are under way
	ready     []*pipeline.Delivery
	err       error // for good
	closed    bool
	gaveUp    time.Time     // when receiving ended
	unheard   int           // requests that cannot be made, or wait for too long
	fault     time.Time     // when a request last was one of them
	answers   time.Duration // how long one takes that does not wait, on average
}

// New returns a Poller.
func New(opts Options) *Poller {
	p := &Poller{opts: opts.withDefaults(), arrived: make(chan struct{}, 1), width: 1}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Receive returns the tasks of the next messages; see pipeline.Source. It asks for as
// many as it may return, Options.Most at once, and for more at once while there are any.
//
// An error that is final, such as of a queue that is not there, ends it for good.
// Any other is tried again.
func (p *Poller) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
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
		p.receiving = true
		for p.asked < limit && p.running < p.width {
			p.poll(min(limit-p.asked, p.opts.Most))
		}
		p.mu.Unlock()
		select {
		case <-p.arrived:
		case <-ctx.Done():
			p.giveUp()
			return nil, ctx.Err()
		}
	}
}

// poll starts a request for up to n messages. The caller holds mu.
func (p *Poller) poll(n int) {
	p.asked += n
	p.running++
	p.polls.Go(func() {
		got, err := p.receive(n)
		p.mu.Lock()
		p.asked -= n
		if came := len(got.tasks) + len(got.malformed); came == n || came > 0 && p.opts.Partial { // there may be more
			p.width = min(p.width+1, mostPolls)
		} else {
			p.width = 1
		}
		wanted := p.receiving && !p.closed
		if wanted {
			p.ready = append(p.ready, got.tasks...)
		}
		p.mu.Unlock()
		p.arrive()
		if !wanted {
			release(got.tasks)
		}
		if told := p.tellOf(got.malformed); err == nil {
			err = told
		}
		// Not before: where nobody can be told, no more is received.
		p.mu.Lock()
		p.running--
		if err != nil && p.err == nil {
			p.err = err
		}
		p.mu.Unlock()
		p.arrive()
	})
}

// arrive has Receive look again.
func (p *Poller) arrive() {
	select {
	case p.arrived <- struct{}{}:
	default:
	}
}

// giveUp has nobody wait for what the polls may bring: it is released as it comes,
// and so is what has come.
func (p *Poller) giveUp() {
	p.mu.Lock()
	if p.receiving {
		p.receiving, p.gaveUp = false, time.Now()
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
			ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
			defer cancel()
			_ = d.Release(ctx, 0) // else its lease runs out
		})
	}
	all.Wait()
}

const releaseTime = 5 * time.Second

// received is what one request has brought.
type received struct {
	tasks     []*pipeline.Delivery
	malformed []malformed
}

// malformed is a message that is no task.
type malformed struct {
	*pipeline.Delivery // without a task
	body               string
	reason             error
}

// receive is one request, tried again until it succeeds, or cannot.
func (p *Poller) receive(n int) (received, error) {
	heard := func() {}
	defer func() { heard() }()
	attempt := rand.Text()
	for try := 0; ; try++ {
		messages, err := p.ask(n, attempt)
		if err == nil {
			return p.deliveries(messages), nil
		}
		if p.ctx.Err() != nil {
			return received{}, nil
		}
		if final := p.opts.Final(err); final != nil {
			return received{}, final
		}
		if try == 0 {
			heard = p.notHeard()
		}
		p.opts.Log.Warn().Err(err).Msg("no messages could be received; it is tried again")
		if !again.Pause(p.ctx, try) {
			return received{}, nil
		}
	}
}

// ask makes one request. One that is not answered in time is given up.
func (p *Poller) ask(n int, attempt string) ([]Message, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.opts.Wait+p.opts.Limit)
	defer cancel()
	heard := make(chan func(), 1)
	late := time.AfterFunc(p.opts.Wait+p.opts.Late, func() { heard <- p.notHeard() })
	defer func() {
		if !late.Stop() {
			(<-heard)()
		}
	}()
	return p.opts.Ask(ctx, n, attempt)
}

// notHeard says that a request cannot be made at the moment, until what it returns is
// called.
func (p *Poller) notHeard() (heard func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unheard++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.unheard--
		p.fault = time.Now()
	}
}

// Unanswered is when the queue last could not be asked; see pipeline.Prober.
func (p *Poller) Unanswered() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unheard > 0 {
		return time.Now()
	}
	return p.fault
}

// deliveries makes a delivery of each message.
func (p *Poller) deliveries(messages []Message) (got received) {
	for _, m := range messages {
		task, fault := pipeline.Task{ID: m.ID, Data: []byte(m.Body)}, error(nil)
		if !p.opts.Raw {
			task, fault = parse(m.Body)
		}
		d := pipeline.NewDelivery(task, m.Lease, max(m.Attempt, 1))
		if fault == nil {
			got.tasks = append(got.tasks, d)
		} else {
			got.malformed = append(got.malformed, malformed{d, m.Body, fault})
		}
	}
	return got
}

// tellOf tells of messages that are no tasks, and then acknowledges them.
func (p *Poller) tellOf(messages []malformed) error {
	errs := make([]error, len(messages))
	var all sync.WaitGroup
	for i, m := range messages {
		all.Go(func() { errs[i] = p.tellOfOne(m) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (p *Poller) tellOfOne(m malformed) error {
	if p.opts.Malformed == nil {
		release([]*pipeline.Delivery{m.Delivery})
		return fmt.Errorf("%s: %w", p.opts.Provider, m.reason)
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.opts.Lease)
	defer cancel()
	err := p.opts.Malformed(ctx, m.body, m.reason)
	switch {
	case err == nil:
		if err := m.Ack(ctx); err != nil {
			p.opts.Log.Warn().Err(err).Msg("a message that is no task has been told of and not deleted; it will be told of again")
		}
	case ctx.Err() != nil: // its lease is over, or the run is; it comes again
		p.opts.Log.Warn().Err(err).Msg("a message that is no task could not be told of in time")
		release([]*pipeline.Delivery{m.Delivery})
	default:
		release([]*pipeline.Delivery{m.Delivery})
		return fmt.Errorf("%s: a message that is no task could not be told of: %w", p.opts.Provider, err)
	}
	return nil
}

// Close ends the polls, and returns once what they have brought has been released.
// Close again does nothing.
func (p *Poller) Close(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.giveUp()
	p.endPolls(ctx)
}

// endPolls ends the polls. An answer that is on its way has some time to come: what
// it brings would else be hidden from others until its lease runs out.
func (p *Poller) endPolls(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.polls.Wait()
	}()
	p.mu.Lock()
	patience := min(max(2*p.answers, shortAnswer), longAnswer)
	if p.opts.WaitOut {
		patience += p.opts.Wait
	}
	grace := time.NewTimer(time.Until(p.gaveUp.Add(patience)))
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
	shortAnswer = 250 * time.Millisecond
	longAnswer  = 3 * time.Second
)

// Answered enters how long the queue has taken to answer what does not wait.
func (p *Poller) Answered(took time.Duration) {
	const weight = 8
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers == 0 {
		p.answers = took
	}
	p.answers += (took - p.answers) / weight
}
