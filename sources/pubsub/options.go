package pubsub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/api/option"

	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/internal/pubsubapi"
	"github.com/ctworker/ctworker/internal/retry"
)

// Options configures a Source. Only Queue and Project are required.
type Options struct {
	// Queue is the name of the queue. The name of the subscription is Queue with the suffix
	// "-subscription".
	Queue string
	// Project is the project id.
	Project string
	// Region is the region whose endpoint is used. Defaults to the global endpoint.
	// Exactly-once delivery requires that all workers use the same region.
	Region string
	// ClientOptions are options for the API clients, such as credentials. Defaults to
	// Application Default Credentials.
	ClientOptions []option.ClientOption
	// Lease is the ack deadline of a received message, in whole seconds from 1 s to 600 s. If the
	// subscription has a different deadline, the lease of each message is set to Lease as soon as
	// the message arrives. Defaults to 60s.
	Lease time.Duration
	// Wait is how long a pull waits for a message, from 1 s to 90 s. Close can take that long,
	// because it lets open pulls end: messages that Pub/Sub sends to a canceled pull are unavailable
	// until their ack deadline. Wait is limited to a third of Lease, and to a third of the ack
	// deadline of the subscription, because a lease is counted from the request. Defaults to 3s.
	Wait time.Duration
	// Linger is how long an acknowledgment, release or extension waits for others, because one
	// request can send several of them. Defaults to 10ms.
	Linger time.Duration
	// ExactlyOnce makes Open return an error for a subscription without exactly-once
	// delivery.
	ExactlyOnce bool
	// CountAttempts makes Open return an error for a subscription without a dead-letter
	// policy. Pub/Sub counts deliveries only on a subscription with such a policy. Without a
	// policy, Attempt is always 1.
	CountAttempts bool
	// Raw disables parsing: Task.ID is the message id, and Task.Data is the body, which need
	// not be JSON.
	Raw bool
	// OnMalformed is called with the body of each malformed message and the reason. The message is
	// acknowledged after OnMalformed has returned nil. Several goroutines may call OnMalformed
	// concurrently. ctx ends when the lease of the message ends. If OnMalformed is nil, a malformed
	// message is released, and Receive returns an error.
	OnMalformed func(ctx context.Context, body string, reason error) error
	// Log receives warnings about malformed messages that could not be reported or deleted.
	Log zerolog.Logger

	reporter *retry.Reporter // see retry.WithReporter

	receiveTimeout, slowAfter, suspectTime time.Duration // see queuepoll.Options; tests shorten them
}

func (o Options) withDefaults() Options {
	if o.Lease <= 0 {
		o.Lease = time.Minute
	}
	if o.Wait <= 0 {
		o.Wait = 3 * time.Second
	}
	return o
}

const maxWait = 90 * time.Second

// Validate returns an error that lists every invalid field, or nil.
func (o Options) Validate() error {
	return optcheck.Join("pubsub.Options", optcheck.Required("Queue", o.Queue), optcheck.NotNegative("Linger", o.Linger),
		optcheck.Between("Lease", o.Lease, time.Second, pubsubapi.MaxAckDeadline), optcheck.Between("Wait", o.Wait, time.Second, maxWait))
}

// Open looks up the subscription. It uses the Application Default Credentials, unless
// Options.ClientOptions contains other credentials. The caller must close the Source.
func Open(ctx context.Context, opts Options) (*Source, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	opts.reporter = retry.ReporterFrom(ctx, opts.Log, "Pub/Sub")
	clients, err := pubsubapi.NewClients(ctx, pubsubapi.Location{Project: opts.Project, Region: opts.Region}, opts.ClientOptions...)
	if err != nil {
		return nil, err
	}
	clients.Reporter, clients.SuspectTime = opts.reporter, opts.suspectTime
	queue := clients.Queue(opts.Queue)
	info, err := checkSubscription(ctx, queue, opts)
	if err != nil {
		return nil, errors.Join(err, clients.Close())
	}
	return newSource(clients, queue, info.AckDeadline, opts), nil
}

// checkSubscription requests the subscription and checks that it has the properties that opts
// requires. If opts requires no properties and the credentials have no permission to read the
// subscription, checkSubscription assumes the minimum ack deadline.
func checkSubscription(ctx context.Context, queue *pubsubapi.Queue, opts Options) (pubsubapi.Info, error) {
	info, err := queue.Info(ctx)
	switch {
	case pubsubapi.IsDenied(err) && !opts.ExactlyOnce && !opts.CountAttempts:
		return pubsubapi.Info{AckDeadline: pubsubapi.MinAckDeadline}, nil
	case err != nil && opts.Raw && info.TopicDeleted: // earlier messages can still be received
		opts.Log.Warn().Err(err).Msg("the topic of the subscription was deleted; receiving the messages that remain")
		return info, nil
	case err != nil:
		return info, err
	case opts.ExactlyOnce && !info.ExactlyOnce:
		return info, errors.New("pubsub: " + queue.NotExactlyOnce())
	case opts.CountAttempts && info.DeadLetterTopic == "":
		return info, fmt.Errorf("pubsub: --max-attempts needs a subscription with a dead-letter policy, and %q has none: add one (gcloud pubsub subscriptions update --dead-letter-topic), or omit --max-attempts", queue.Subscription)
	}
	return info, nil
}
