package sqs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/aws"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/pipeline/batch"
)

// mostPolls is how many receives are under way at once at most.
const mostPolls = 8

// A Source takes tasks from a queue. It never ends by itself.
type Source struct {
	client client
	url    string
	opts   Options
	limit  time.Duration // for an answer, beside what it is to wait; tests have less
	late   time.Duration // after which it is taken for one that does not come

	ctx    context.Context // of the polls; ends with Close
	cancel context.CancelFunc
	polls  sync.WaitGroup

	deletes           *batch.Batcher[string]
	extends, releases *batch.Batcher[visibility]
	arrived           chan struct{} // holds a token when a poll has ended

	mu        sync.Mutex
	receiving bool // what arrives is for Receive, now or the next time; else it is released
	asked     int  // messages that the polls under way may bring
	width     int  // how many polls pay
	running   int  // how many are under way
	ready     []*pipeline.Delivery
	err       error // for good
	closed    bool
	gaveUp    time.Time     // when receiving ended
	unheard   int           // receives that cannot be made, or wait for too long
	fault     time.Time     // when a receive last was one of them
	answers   time.Duration // how long one takes, on average
}

func newSource(c client, url string, opts Options) *Source {
	s := &Source{client: c, url: url, opts: opts, limit: aws.RequestTime, late: lateAnswer, arrived: make(chan struct{}, 1), width: 1}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.deletes = batch.New(batch.Options[string]{Most: aws.BatchMost, Linger: opts.Linger}, s.deleteBatch)
	s.extends = batch.New(batch.Options[visibility]{Most: aws.BatchMost, Linger: opts.Linger}, s.changeBatch)
	s.releases = batch.New(batch.Options[visibility]{Most: aws.BatchMost, Linger: opts.Linger}, s.changeBatch)
	return s
}

// Receive returns the tasks of the next messages; see pipeline.Source. It asks for as
// many as it may return, ten at once, and for more tens at once while they come full.
//
// An error that another try would only meet again, such as a queue that is not
// there, ends it for good. Whatever else SQS or the network answers is tried again.
func (s *Source) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		if n := min(len(s.ready), limit); n > 0 {
			ds := s.ready[:n:n]
			s.ready = s.ready[n:]
			s.mu.Unlock()
			return ds, nil
		}
		if s.err != nil {
			defer s.mu.Unlock()
			return nil, s.err
		}
		s.receiving = true
		for s.asked < limit && s.running < s.width {
			s.poll(min(limit-s.asked, aws.BatchMost))
		}
		s.mu.Unlock()
		select {
		case <-s.arrived:
		case <-ctx.Done():
			s.giveUp()
			return nil, ctx.Err()
		}
	}
}

// poll starts a receive of up to n messages. The caller holds mu.
func (s *Source) poll(n int) {
	s.asked += n
	s.running++
	s.polls.Go(func() {
		got, err := s.receive(n)
		s.mu.Lock()
		s.asked -= n
		if len(got.tasks)+len(got.malformed) == n { // there may be more where they came from
			s.width = min(s.width+1, mostPolls)
		} else {
			s.width = 1
		}
		wanted := s.receiving && !s.closed
		if wanted {
			s.ready = append(s.ready, got.tasks...)
		}
		s.mu.Unlock()
		s.arrive()
		if !wanted {
			release(got.tasks)
		}
		if told := s.tellOf(got.malformed); err == nil {
			err = told
		}
		// Not before: where nobody can be told, no more is received.
		s.mu.Lock()
		s.running--
		if err != nil && s.err == nil {
			s.err = err
		}
		s.mu.Unlock()
		s.arrive()
	})
}

// arrive has Receive look again.
func (s *Source) arrive() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// giveUp has nobody wait for what the polls may bring: it is released as it comes,
// and so is what has come.
func (s *Source) giveUp() {
	s.mu.Lock()
	if s.receiving {
		s.receiving, s.gaveUp = false, time.Now()
	}
	left := s.ready
	s.ready = nil
	s.mu.Unlock()
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

// received is what one receive has brought.
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

// receive is one receive, tried again until it succeeds, or cannot.
func (s *Source) receive(n int) (received, error) {
	in := &sqs.ReceiveMessageInput{
		QueueUrl: &s.url, MaxNumberOfMessages: int32(n), WaitTimeSeconds: aws.Seconds(s.opts.Wait),
		VisibilityTimeout: aws.Seconds(s.opts.Lease), MessageSystemAttributeNames: []types.MessageSystemAttributeName{receiveCount},
	}
	if strings.HasSuffix(s.url, aws.FIFO) { // what an answer that is lost had brought, another try brings again
		in.ReceiveRequestAttemptId = awssdk.String(rand.Text())
	}
	heard := func() {}
	defer func() { heard() }()
	for try := 0; ; try++ {
		out, err := s.ask(in)
		switch {
		case err == nil:
			return s.deliveries(out.Messages), nil
		case s.ctx.Err() != nil:
			return received{}, nil
		case !aws.IsPassing(err):
			return received{}, aws.Explain("ReceiveMessage", s.opts.Queue, err)
		}
		if try == 0 {
			heard = s.notHeard()
		}
		s.opts.Log.Warn().Err(err).Msg("no messages could be received; it is tried again")
		if !aws.Pause(s.ctx, try) {
			return received{}, nil
		}
	}
}

// ask makes one receive. One that is not answered in time is given up.
func (s *Source) ask(in *sqs.ReceiveMessageInput) (*sqs.ReceiveMessageOutput, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.opts.Wait+s.limit)
	defer cancel()
	heard := make(chan func(), 1)
	late := time.AfterFunc(s.opts.Wait+s.late, func() { heard <- s.notHeard() })
	defer func() {
		if !late.Stop() {
			(<-heard)()
		}
	}()
	return s.client.ReceiveMessage(ctx, in, atOnce)
}

// atOnce has an error told at once: the SDK's own second tries would keep it to
// themselves for seconds.
func atOnce(o *sqs.Options) { o.Retryer = awssdk.NopRetryer{} }

// lateAnswer is how much longer than it is to wait an answer may take, before it is
// taken for one that does not come.
const lateAnswer = 3 * time.Second

// notHeard says that a receive cannot be made at the moment, until what it returns is
// called.
func (s *Source) notHeard() (heard func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unheard++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unheard--
		s.fault = time.Now()
	}
}

// Unanswered is when SQS last could not be asked; see pipeline.Prober.
func (s *Source) Unanswered() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unheard > 0 {
		return time.Now()
	}
	return s.fault
}

// deliveries makes a delivery of each message.
func (s *Source) deliveries(messages []types.Message) (got received) {
	now := time.Now()
	for _, m := range messages {
		l := &lease{s: s, handle: awssdk.ToString(m.ReceiptHandle), received: now, expires: now.Add(s.opts.Lease)}
		body := awssdk.ToString(m.Body)
		var task pipeline.Task
		var fault error
		if s.opts.Raw {
			task = pipeline.Task{ID: awssdk.ToString(m.MessageId), Data: []byte(body)}
		} else {
			task, fault = parse(body)
		}
		d := pipeline.NewDelivery(task, l, attempt(m))
		if fault == nil {
			got.tasks = append(got.tasks, d)
		} else {
			got.malformed = append(got.malformed, malformed{d, body, fault})
		}
	}
	return got
}

// tellOf tells of messages that are no tasks, and then deletes them.
func (s *Source) tellOf(messages []malformed) error {
	errs := make([]error, len(messages))
	var all sync.WaitGroup
	for i, m := range messages {
		all.Go(func() { errs[i] = s.tellOfOne(m) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (s *Source) tellOfOne(m malformed) error {
	if s.opts.Malformed == nil {
		release([]*pipeline.Delivery{m.Delivery})
		return fmt.Errorf("sqs: %w", m.reason)
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.opts.Lease)
	defer cancel()
	err := s.opts.Malformed(ctx, m.body, m.reason)
	switch {
	case err == nil:
		if err := m.Ack(ctx); err != nil {
			s.opts.Log.Warn().Err(err).Msg("a message that is no task has been told of and not deleted; it will be told of again")
		}
	case ctx.Err() != nil: // its lease is over, or the run is; it comes again
		s.opts.Log.Warn().Err(err).Msg("a message that is no task could not be told of in time")
		release([]*pipeline.Delivery{m.Delivery})
	default:
		release([]*pipeline.Delivery{m.Delivery})
		return fmt.Errorf("sqs: a message that is no task could not be told of: %w", err)
	}
	return nil
}

// Close ends the polls, and returns once what they have brought has been released
// and what is to be settled has been. Close again does nothing.
func (s *Source) Close(ctx context.Context) error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		return nil
	}
	s.giveUp()
	s.endPolls(ctx)
	s.deletes.Close(ctx)
	s.extends.Close(ctx)
	s.releases.Close(ctx)
	return nil
}

// endPolls ends the polls. An answer that is on its way has some time to come: what
// it brings would else be hidden from others until its lease runs out.
func (s *Source) endPolls(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.polls.Wait()
	}()
	s.mu.Lock()
	grace := time.NewTimer(time.Until(s.gaveUp.Add(min(max(2*s.answers, shortAnswer), longAnswer))))
	s.mu.Unlock()
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
	case <-ctx.Done():
	}
	s.cancel()
	<-ended
}

// An answer to a receive that finds something has twice as long to come as others have
// taken, within these bounds.
const (
	shortAnswer = 250 * time.Millisecond
	longAnswer  = 3 * time.Second
)

// answered enters how long SQS has taken to answer what does not wait.
func (s *Source) answered(took time.Duration) {
	const weight = 8
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers == 0 {
		s.answers = took
	}
	s.answers += (took - s.answers) / weight
}
