package pubsub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/api/option"

	"github.com/ctworker/ctworker/internal/pubsubapi"
	"github.com/ctworker/ctworker/internal/retry"
)

// Options say which subscription. Only Queue and Project are required.
type Options struct {
	// Queue is the queue's name; the subscription's is the same with "-subscription".
	Queue string
	// Project is the id of the project.
	Project string
	// Region is the region whose endpoint is asked; see gcp.Place.
	Region string
	// ClientOptions are for the clients, such as credentials. Default: see gcp.Connect.
	ClientOptions []option.ClientOption
	// Lease is how long a message is asked for once it has come: whole seconds, 600 at
	// most. Where the subscription's own deadline is another, a first extension goes
	// out at once. Default 60 s.
	Lease time.Duration
	// Wait is how long a pull waits for a message: 1 s to 90 s. As long may Close take,
	// since a message that comes as a pull is cancelled is hidden until its deadline.
	// Default 3 s. It is no more than a third of Lease, or of the subscription's deadline if
	// that is shorter: a lease is counted from the request (see poll.MaxWait).
	Wait time.Duration
	// Linger is how long an acknowledgment, release or extension waits for others
	// to go with it. Default 10 ms.
	Linger time.Duration
	// ExactlyOnce refuses a subscription that does not deliver exactly once.
	ExactlyOnce bool
	// CountAttempts refuses a subscription that does not count how often it delivers a
	// message: those do that have a dead-letter policy. Else each attempt is the first.
	CountAttempts bool
	// Raw has every message handed over as it is: Task.ID is the message's id, and
	// Task.Data its body, which need not be JSON.
	Raw bool
	// Malformed is told of each message that is no task: its body, and what is wrong
	// with it. It is acknowledged once Malformed has returned nil. Default: the message
	// is left in the queue, and an error ends the run. It may be called from
	// several goroutines at once; its ctx ends with the message's lease.
	OnMalformed func(ctx context.Context, body string, reason error) error
	// Log receives what goes wrong and is tried again.
	Log zerolog.Logger
	// Reporter logs failed requests that are repeated. Share one between all users of the
	// provider, so that an outage is logged once. Defaults to one that writes to Log.
	Reporter *retry.Reporter

	receiveTimeout, slowAfter, suspectTime time.Duration // see poll.Options; shorter in tests
}

func (o Options) withDefaults() Options {
	if o.Reporter == nil {
		o.Reporter = retry.NewReporter(o.Log, "Pub/Sub")
	}
	if o.Lease <= 0 {
		o.Lease = time.Minute
	}
	if o.Wait <= 0 {
		o.Wait = 3 * time.Second
	}
	return o
}

const maxWait = 90 * time.Second

func (o Options) validate() error {
	var errs []error
	if o.Queue == "" {
		errs = append(errs, errors.New("no queue is named"))
	}
	if o.Lease < time.Second || o.Lease > pubsubapi.MaxAckDeadline {
		errs = append(errs, fmt.Errorf("a lease of %v: Pub/Sub has from 1 s to 10 min", o.Lease))
	}
	if o.Wait < time.Second || o.Wait > maxWait {
		errs = append(errs, fmt.Errorf("a wait of %v: give from 1 s to 90 s", o.Wait))
	}
	return errors.Join(errs...)
}

// Open finds the subscription, with the credentials of gcp.Connect.
func Open(ctx context.Context, opts Options) (*Source, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("pubsub: %w", err)
	}
	clients, err := pubsubapi.NewClients(ctx, pubsubapi.Location{Project: opts.Project, Region: opts.Region}, opts.ClientOptions...)
	if err != nil {
		return nil, err
	}
	clients.Reporter, clients.SuspectTime = opts.Reporter, opts.suspectTime
	queue := clients.Queue(opts.Queue)
	info, err := checkSubscription(ctx, queue, opts)
	if err != nil {
		return nil, errors.Join(err, clients.Close())
	}
	return newSource(clients, queue, info.AckDeadline, opts), nil
}

// look asks for the subscription, and says where it is not as it has to be. Who may
// pull need not be one who may ask: then the shortest deadline is taken for granted.
func checkSubscription(ctx context.Context, queue *pubsubapi.Queue, opts Options) (pubsubapi.Info, error) {
	info, err := queue.Info(ctx)
	switch {
	case pubsubapi.IsDenied(err) && !opts.ExactlyOnce && !opts.CountAttempts:
		return pubsubapi.Info{AckDeadline: pubsubapi.MinAckDeadline}, nil
	case err != nil && opts.Raw && info.TopicDeleted: // earlier messages can still be received
		opts.Log.Warn().Err(err).Msg("topic was deleted; receiving the remaining messages of the subscription")
		return info, nil
	case err != nil:
		return info, err
	case opts.ExactlyOnce && !info.ExactlyOnce:
		return info, errors.New("pubsub: " + queue.NotExactlyOnce())
	case opts.CountAttempts && info.DeadLetterTopic == "":
		return info, fmt.Errorf("pubsub: the subscription %q does not count how often it delivers a task, which --max-attempts needs: give it a dead-letter policy (gcloud pubsub subscriptions update --dead-letter-topic), or leave out --max-attempts", queue.Subscription)
	}
	return info, nil
}
