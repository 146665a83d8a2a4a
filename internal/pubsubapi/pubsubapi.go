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

// RequestTimeout is the time limit of one request to Pub/Sub. A request that exceeds it is
// canceled and sent again.
const RequestTimeout = 20 * time.Second

// emulatorVar is the environment variable with the address of the emulator, as HOST:PORT.
const emulatorVar = "PUBSUB_EMULATOR_HOST"

// A Location is the project and the region of queues. Only Project is required.
type Location struct {
	// Project is the project id.
	Project string
	// Region is the region whose endpoint is used, such as "europe-west1". Defaults to ""
	// for the global endpoint, which uses the nearest region. Exactly-once delivery requires
	// that all subscribers use the same region (Google: Pub/Sub, Exactly-once delivery).
	Region string
}

// Clients are the API clients for Pub/Sub. The caller of NewClients must close them.
type Clients struct {
	Topics        *pubsub.TopicAdminClient
	Subscriptions *pubsub.SubscriptionAdminClient

	// Reporter logs failed requests that are retried. May be nil.
	Reporter *retry.Reporter
	// SuspectTime limits how long suspect errors are retried; see retry.Options.
	SuspectTime time.Duration

	location Location
}

// NewClients returns clients with the Application Default Credentials: the file in
// GOOGLE_APPLICATION_CREDENTIALS, the credentials of gcloud, or the credentials of the machine.
// If PUBSUB_EMULATOR_HOST is set, no credentials are needed. If options contains credentials, they
// are used instead. NewClients sends no requests to Pub/Sub.
func NewClients(ctx context.Context, location Location, options ...option.ClientOption) (*Clients, error) {
	if location.Project == "" {
		return nil, errors.New("pubsub: no project is configured: pass --project-id, or set RMS_CLOUD_TASKS_PROJECT_ID")
	}
	opts := []option.ClientOption{
		option.WithGRPCDialOption(grpc.WithConnectParams(grpc.ConnectParams{
			// With the default MaxDelay of 2 minutes, a worker could be idle for 2 minutes after
			// the network has recovered.
			Backoff:           backoff.Config{BaseDelay: 250 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 10 * time.Second,
		})),
		// A connection that does not respond to a ping within Timeout is closed.
		option.WithGRPCDialOption(grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 5 * time.Minute, Timeout: 20 * time.Second})),
	}
	opts = append(opts, guards()...)
	if len(options) == 0 && os.Getenv(emulatorVar) == "" {
		// Ignore the error if there are no credentials: the functions that create the clients
		// below return it.
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
	// Disable the retries of the library, which continue until ctx ends and do not report errors.
	subscriptions.CallOptions, topics.CallOptions = &pubsub.SubscriptionAdminCallOptions{}, &pubsub.TopicAdminCallOptions{}
	return &Clients{Topics: topics, Subscriptions: subscriptions, location: location}, nil
}

// Close ends the connections.
func (c *Clients) Close() error {
	return errors.Join(c.Topics.Close(), c.Subscriptions.Close())
}

// Retry calls do until do succeeds or returns an error that is not retried, or until ctx ends.
// Permanent errors and errors that match final are not retried. Refused credentials and invalid
// responses are retried for c.SuspectTime; see Classify. action names the request in the log.
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

// slowAfter is the time after which atStart logs that a request has no response yet. The request
// continues.
const slowAfter = 3 * time.Second

// atStart calls do with the time limit RequestTimeout per call. It retries transient errors for a
// few seconds; see retry.AtStart.
func atStart[T any](ctx context.Context, c *Clients, action string, do func(context.Context) (T, error)) (T, error) {
	opts := c.options(action)
	opts.SlowAfter = slowAfter
	return retry.AtStart(ctx, opts, func() (T, error) {
		ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
		defer cancel()
		return do(ctx)
	})
}
