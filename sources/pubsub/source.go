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

// maxPullMessages is how many messages a pull asks for at most. Pub/Sub often returns fewer
// than there are, so that several at once get more than one that asks for all.
const maxPullMessages = 100

// What a request about messages takes (Google: Pub/Sub quotas and limits, 512 KiB).
const (
	maxRequestIDs     = 1000
	maxRequestIDBytes = 500_000
)

// A Source takes tasks from a subscription. It never ends by itself.
type Source struct {
	clients  *pubsubapi.Clients
	client   *apiv1.SubscriptionAdminClient
	queue    *pubsubapi.Queue
	deadline time.Duration // the subscription's own
	opts     Options
	poller   *queuepoll.Poller

	acks              *batch.Batcher[string]
	extends, releases *batch.Batcher[change]

	firstExtensions sync.WaitGroup     // extensions of what has just come
	ctx             context.Context    // of those
	cancel          context.CancelFunc // ends with Close
	closing         sync.Once
}

func newSource(clients *pubsubapi.Clients, queue *pubsubapi.Queue, deadline time.Duration, opts Options) *Source {
	s := &Source{clients: clients, client: clients.Subscriptions, queue: queue, deadline: deadline, opts: opts}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.poller = queuepoll.New(queuepoll.Options{
		Provider: "pubsub", Action: "Pull", Receive: s.pull, Classify: pubsubapi.Classify, Explain: s.describeError,
		MaxBatchSize: maxPullMessages, PartialBatches: true, Wait: queuepoll.MaxWait(opts.Wait, s.initialLease()), WaitForOpenPolls: true, Lease: opts.Lease, Raw: opts.Raw, OnMalformed: opts.OnMalformed,
		Log: opts.Log, Reporter: opts.Reporter, SuspectTime: opts.suspectTime, ReceiveTimeout: opts.receiveTimeout, SlowAfter: opts.slowAfter,
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

// Receive returns the tasks of the next messages; see pipeline.Source. It asks for as
// many as it may return, a hundred at once, and for more at once while there are any.
//
// An error that another try would only meet again, such as a subscription that is not
// there, ends it for good. Whatever else Pub/Sub or the network answers is tried again.
func (s *Source) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	return s.poller.Receive(ctx, limit)
}

// ReceiveUntilIdle implements pipeline.Idler.
func (s *Source) ReceiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) ([]*pipeline.Delivery, error) {
	return s.poller.ReceiveUntilIdle(ctx, limit, idleAt)
}

// Unanswered is when Pub/Sub last could not be asked; see pipeline.Prober.
func (s *Source) LastFailure() time.Time { return s.poller.LastFailure() }

// Close ends the polls, and returns once what they have brought has been released
// and what is to be settled has been. Close again does nothing.
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

// ask makes one pull. It waits for Options.Wait, also if less is asked for: a pull that is
// canceled before Pub/Sub has answered can take messages that then stay hidden until their
// deadline.
func (s *Source) pull(ctx context.Context, n int, wait time.Duration, _ string) ([]queuepoll.Message, error) {
	pull, cancel := context.WithTimeout(ctx, max(wait, queuepoll.MaxWait(s.opts.Wait, s.initialLease())))
	defer cancel()
	sent := boottime.Now()
	out, err := s.client.Pull(pull, &pubsubpb.PullRequest{Subscription: s.queue.Subscription, MaxMessages: int32(n)})
	if err != nil && pull.Err() != nil && ctx.Err() == nil {
		return nil, s.probe(ctx) // there is nothing, or nobody to say so
	}
	if err != nil {
		return nil, err
	}
	if len(out.GetReceivedMessages()) == 0 { // it need not have waited
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

// held is how long a message is held at least, before its lease is renewed.
func (s *Source) initialLease() time.Duration { return min(s.deadline, s.opts.Lease) }

// probe tells a queue that has nothing from a network that is away: a pull that has
// waited for long enough ends the same way. Any answer will do.
func (s *Source) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pubsubapi.RequestTimeout)
	defer cancel()
	_, err := s.client.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: s.queue.Subscription})
	if pubsubapi.IsDenied(err) {
		return nil
	}
	return err
}

// extendFirst asks for the messages for as long as the lease is to be, where they are
// held for another time: one that is shorter could be over before the lease is first
// renewed, and one that is longer would keep the tasks of a worker that dies. It does
// not wait for it; what it returns is closed when it has been done.
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
			if err != nil { // there is time for another try, which the renewal is
				s.opts.Log.Debug().Err(err).Msg("a lease could not be extended as its message came")
				break
			}
		}
	})
	return done
}

func (s *Source) describeError(err error) error { return s.queue.DescribeError("Pull", err) }
