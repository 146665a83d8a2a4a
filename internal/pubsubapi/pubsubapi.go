package pubsubapi

import (
	"context"
	"errors"
	"os"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/ctworker/ctworker/internal/retry"
)

// RequestTimeout is how long Pub/Sub has for an answer, before the request is given up
// and made anew.
const RequestTimeout = 20 * time.Second

// emulator is the variable that has the emulator's address, without a scheme.
const emulatorVar = "PUBSUB_EMULATOR_HOST"

// A Place is where queues are. Only Project is required.
type Location struct {
	// Project is the project's id.
	Project string
	// Region is the region, such as "europe-west1", whose endpoint is asked. Default:
	// the global endpoint, which asks the nearest region. A subscription delivers
	// exactly once to those alone who ask the same region
	// (Google: Pub/Sub, Exactly-once delivery).
	Region string
}

// Clients are connections to Pub/Sub. They have an owner that closes them.
type Clients struct {
	Topics        *pubsub.TopicAdminClient
	Subscriptions *pubsub.SubscriptionAdminClient

	// Reporter logs failed requests that are repeated. May be nil.
	Reporter *retry.Reporter
	// SuspectTime is as in again.Options.
	SuspectTime time.Duration

	location Location
}

// Connect finds the credentials, as every tool of Google's does: the file that
// GOOGLE_APPLICATION_CREDENTIALS names, those of gcloud, or the machine's own. With
// PUBSUB_EMULATOR_HOST none are needed. Options, such as credentials of one's own, go
// before what is found. Nothing is asked yet.
func NewClients(ctx context.Context, location Location, options ...option.ClientOption) (*Clients, error) {
	if location.Project == "" {
		return nil, errors.New("pubsub: no project: give --project-id, or set RMS_CLOUD_TASKS_PROJECT_ID")
	}
	opts := []option.ClientOption{
		option.WithGRPCDialOption(grpc.WithConnectParams(grpc.ConnectParams{
			// gRPC's own longest pause is 2 minutes: as long would a worker stand still
			// after the network is back.
			Backoff:           backoff.Config{BaseDelay: 250 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 10 * time.Second,
		})),
		// A connection that is dead is given up after Timeout.
		option.WithGRPCDialOption(grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 5 * time.Minute, Timeout: 20 * time.Second})),
	}
	opts = append(opts, guards()...)
	if len(options) == 0 && os.Getenv(emulatorVar) == "" {
		// If there are no credentials, creating the clients below returns the error.
		if creds, err := newCredentialsReloader(); err == nil {
			opts = append(opts, option.WithAuthCredentials(creds.credentials()),
				option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(creds.intercept)))
		}
	}
	if location.Region != "" && os.Getenv(emulatorVar) == "" {
		opts = append(opts, option.WithEndpoint(location.Region+"-pubsub.googleapis.com:443"))
	}
	opts = append(opts, options...)
	subscriptions, err := pubsub.NewSubscriptionAdminClient(ctx, opts...)
	if err != nil {
		return nil, describeConnectError(err)
	}
	topics, err := pubsub.NewTopicAdminClient(ctx, opts...)
	if err != nil {
		return nil, errors.Join(describeConnectError(err), subscriptions.Close())
	}
	// The library's own second tries last as long as their ctx, and keep to themselves
	// what they meet.
	subscriptions.CallOptions, topics.CallOptions = &pubsub.SubscriptionAdminCallOptions{}, &pubsub.TopicAdminCallOptions{}
	return &Clients{Topics: topics, Subscriptions: subscriptions, location: location}, nil
}

// Close ends the connections.
func (c *Clients) Close() error {
	return errors.Join(c.Topics.Close(), c.Subscriptions.Close())
}

// Again calls do until it succeeds, returns a permanent error or an error that Is final, or
// ctx ends. After refused credentials or a damaged response it calls do again for
// c.SuspectTime; see Classify. action names the request in the log.
func (c *Clients) Retry(ctx context.Context, action string, final error, do func() error) error {
	opts := c.options(action)
	opts.Classify = func(err error) retry.Class {
		if errors.Is(err, final) {
			return retry.Permanent
		}
		return Classify(err)
	}
	return retry.Do(ctx, opts, do)
}

func (c *Clients) options(action string) retry.Options {
	return retry.Options{Classify: Classify, Action: action, Reporter: c.Reporter, SuspectTime: c.SuspectTime}
}

// slowAfter is the time after which a request at the start is logged as unanswered.
const slowAfter = 3 * time.Second

// atStart calls do with the time limit RequestTimeout. It repeats transient errors for a few
// seconds; see again.AtStart.
func atStart[T any](ctx context.Context, c *Clients, action string, do func(context.Context) (T, error)) (T, error) {
	opts := c.options(action)
	opts.SlowAfter = slowAfter
	return retry.AtStart(ctx, opts, func() (T, error) {
		ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
		defer cancel()
		return do(ctx)
	})
}
