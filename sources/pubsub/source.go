package pubsub

import (
	"context"
	"sync"
	"time"

	apiv1 "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"github.com/ctworker/ctworker/internal/batch"
	"github.com/ctworker/ctworker/internal/boottime"
	"github.com/ctworker/ctworker/internal/pubsubapi"
	"github.com/ctworker/ctworker/internal/queuepoll"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/pipeline"
)

// maxPullMessages is the maximum number of messages per Pull request. Pub/Sub often returns fewer
// messages than are available, so several concurrent pulls get more messages than one large pull.
const maxPullMessages = 100

// The limits of an Acknowledge or ModifyAckDeadline request, in ack ids and their bytes
// (Google: Pub/Sub quotas and limits, 512 KiB).
const (
	maxRequestIDs     = 1000
	maxRequestIDBytes = 500_000
)

// A Source receives tasks from a subscription. It is never exhausted.
type Source struct {
	clients  *pubsubapi.Clients
	client   *apiv1.SubscriptionAdminClient
	queue    *pubsubapi.Queue
	deadline time.Duration // the ack deadline of the subscription
	opts     Options
	poller   *queuepoll.Poller

	acks              *batch.Batcher[string]
	extends, releases *batch.Batcher[change]

	firstExtensions sync.WaitGroup     // open requests of extendFirst
	ctx             context.Context    // of the requests of extendFirst
	cancel          context.CancelFunc // called by Close
	closing         sync.Once
}

func newSource(clients *pubsubapi.Clients, queue *pubsubapi.Queue, deadline time.Duration, opts Options) *Source {
	s := &Source{clients: clients, client: clients.Subscriptions, queue: queue, deadline: deadline, opts: opts}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.poller = queuepoll.New(queuepoll.Options{
		Provider: "pubsub", Action: "Pull", Receive: s.pull, Classify: pubsubapi.Classify, Explain: s.describeError,
		MaxBatchSize: maxPullMessages, PartialBatches: true, Wait: queuepoll.MaxWait(opts.Wait, s.initialLease()), WaitForOpenPolls: true, Lease: opts.Lease, Raw: opts.Raw, OnMalformed: opts.OnMalformed,
		Log: opts.Log, Reporter: opts.reporter, SuspectTime: opts.suspectTime, ReceiveTimeout: opts.receiveTimeout, SlowAfter: opts.slowAfter,
	})
	s.acks = batch.New(batch.Options[string]{
		MaxItems: maxRequestIDs, MaxBytes: maxRequestIDBytes, Size: func(id string) int { return len(id) }, Linger: opts.Linger,
	}, s.acknowledge)
	changes := batch.Options[change]{
		MaxItems: maxRequestIDs, MaxBytes: maxRequestIDBytes, Size: func(c change) int { return len(c.id) }, Linger: opts.Linger,
	}
	s.extends = batch.New(changes, s.modify)
	s.releases = batch.New(changes, s.modify)
	return s
}

// Receive returns the tasks of the next messages; see pipeline.Source. It requests up to limit
// messages, at most 100 per request, and sends more concurrent requests as long as messages
// arrive.
//
// Transient errors are retried. After a permanent error, such as a missing subscription, this
// call and all further calls return that error.
func (s *Source) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	return s.poller.Receive(ctx, limit)
}

// ReceiveUntilIdle implements pipeline.Idler.
func (s *Source) ReceiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) ([]*pipeline.Delivery, error) {
	return s.poller.ReceiveUntilIdle(ctx, limit, idleAt)
}

// Hints implements pipeline.Hinter. The queue is shared with other workers.
func (s *Source) Hints() pipeline.Hints {
	return pipeline.Hints{Shared: true, BatchSize: maxPullMessages}
}

// LastFailure returns the time at which Pub/Sub was last unreachable; see
// pipeline.HealthReporter.
func (s *Source) LastFailure() time.Time { return s.poller.LastFailure() }

// Close stops the polls, releases the messages that Receive has not returned, waits for the
// open settlements, and closes the clients. A second Close does nothing.
func (s *Source) Close(ctx context.Context) (err error) {
	s.closing.Do(func() {
		s.poller.Close(ctx)
		stop := context.AfterFunc(ctx, s.cancel)
		s.firstExtensions.Wait()
		stop()
		s.cancel()
		s.acks.Close(ctx)
		s.extends.Close(ctx)
		s.releases.Close(ctx)
		err = s.clients.Close()
	})
	return err
}

// pull sends one Pull request. If wait is shorter than Options.Wait, pull still waits for
// Options.Wait (limited by queuepoll.MaxWait): a short wait would cancel more pulls, and messages
// that Pub/Sub sends to a canceled pull are unavailable until their ack deadline.
func (s *Source) pull(ctx context.Context, n int, wait time.Duration, _ string) ([]queuepoll.Message, error) {
	pull, cancel := context.WithTimeout(ctx, max(wait, queuepoll.MaxWait(s.opts.Wait, s.initialLease())))
	defer cancel()
	sent := boottime.Now()
	out, err := s.client.Pull(pull, &pubsubpb.PullRequest{Subscription: s.queue.Subscription, MaxMessages: int32(n)})
	if err != nil && pull.Err() != nil && ctx.Err() == nil {
		return nil, s.probe(ctx) // there are no messages, or Pub/Sub is unreachable
	}
	if err != nil {
		return nil, err
	}
	if len(out.GetReceivedMessages()) == 0 { // Pub/Sub may respond before the wait is over
		return nil, nil
	}
	first := s.extendFirst(out.GetReceivedMessages())
	expires := queuepoll.ExpiresAt(sent, s.initialLease())
	messages := make([]queuepoll.Message, len(out.GetReceivedMessages()))
	for i, m := range out.GetReceivedMessages() {
		messages[i] = queuepoll.Message{
			ID: m.GetMessage().GetMessageId(), Body: string(m.GetMessage().GetData()), Attempt: int(m.GetDeliveryAttempt()),
			Lease: &lease{s: s, id: m.GetAckId(), firstExtension: first, expires: expires},
		}
	}
	return messages, nil
}

// initialLease returns the duration of a new lease. It is the shorter of two durations, because
// extendFirst may or may not have set the ack deadline of the message to Options.Lease.
func (s *Source) initialLease() time.Duration { return min(s.deadline, s.opts.Lease) }

// probe checks that Pub/Sub is reachable. It is needed because a pull ends in the same way, with a
// timeout, if the queue is empty and if the network is down. Any response shows that Pub/Sub is
// reachable, even if it denies the request.
func (s *Source) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pubsubapi.RequestTimeout)
	defer cancel()
	_, err := s.client.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: s.queue.Subscription})
	if pubsubapi.IsDenied(err) {
		return nil
	}
	return err
}

// extendFirst sets the ack deadline of new messages to Options.Lease if the ack deadline of the
// subscription is different. A shorter deadline could pass before the lease is first extended. A
// longer deadline would delay the redelivery of the tasks of a crashed worker. extendFirst does not
// wait for the response. When the request has ended, the returned channel is closed.
func (s *Source) extendFirst(messages []*pubsubpb.ReceivedMessage) <-chan struct{} {
	done := make(chan struct{})
	if s.deadline == s.opts.Lease {
		close(done)
		return done
	}
	changes := make([]change, len(messages))
	for i, m := range messages {
		changes[i] = change{id: m.GetAckId(), after: pubsubapi.Seconds(s.opts.Lease)}
	}
	s.firstExtensions.Go(func() {
		defer close(done)
		var errs []error
		guarded := retry.Guard(func() error { errs = s.modify(s.ctx, changes); return nil })
		for _, err := range append(errs, guarded) {
			if err != nil { // the next extension also sets the deadline
				s.opts.Log.Debug().Err(err).Msg("could not extend the lease of a new message; the message may be delivered again")
				break
			}
		}
	})
	return done
}

func (s *Source) describeError(err error) error { return s.queue.DescribeError("Pull", err) }
