package cloudqueue

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/pipeline"
)

// A Provider has a job's two queues.
type Provider interface {
	// Tasks is the queue of tasks, and Events that of the events that tell of them.
	Tasks() Queue
	Events() Queue
	// OpenSource opens the queue of tasks, which has to be there.
	OpenSource(ctx context.Context, opts SourceOptions) (pipeline.Source, error)
	// OpenSink opens the queue of events, and creates it where it is missing.
	OpenSink(ctx context.Context) (pipeline.Sink, error)
	// Batch is how many messages it hands over at the price of one.
	MaxBatchSize() int
	// CanLease returns an error if a task that may take d, the lease, or the retry delay of
	// the settings exceeds a limit of the provider.
	ValidateLease(d, lease time.Duration) error
}

// SourceOptions are what a source of tasks is told beside the settings.
type SourceOptions struct {
	// Malformed is told of each message that is no task; see sources/sqs.Options.
	OnMalformed func(ctx context.Context, body string, reason error) error
	Log         zerolog.Logger
}

// A Queue is one queue, which need not be there.
type Queue interface {
	// Name is the queue's name with the provider.
	Name() string
	// Status asks what is in it. An error that Is ErrMissing says that it is not there.
	Status(ctx context.Context) (Status, error)
	// Create creates it, unless it is there.
	Create(ctx context.Context) (created bool, err error)
	// Purge deletes what is in it.
	Purge(ctx context.Context) error
	// Delete deletes the queue, with what is in it.
	Delete(ctx context.Context) error
	// OpenLoader opens it to send tasks to.
	OpenLoader(ctx context.Context) (Loader, error)
	// OpenReader opens it to read its messages as they are: each is the Data of a task.
	OpenReader(ctx context.Context, log zerolog.Logger) (pipeline.Source, error)
}

// A Loader sends tasks to a queue.
type Loader interface {
	// Prepare returns what sends a task, and says where the queue cannot take it. What
	// it returns returns once the provider has the task; it may be called from several
	// goroutines at once, whose tasks go in batches.
	Prepare(task pipeline.Task) (send func(ctx context.Context) error, err error)
	// Close sends what is on its way.
	Close(ctx context.Context)
}

// Status is what is in a queue. The numbers of messages are approximate where the
// provider's are.
type Status struct {
	// Uncounted says that the provider tells no numbers.
	CountsUnavailable bool
	// Waiting messages can be received, Held ones have been and are neither done nor
	// given back, and Delayed ones cannot be received yet.
	Visible, InFlight, Delayed int64
	// Retention is how long a message is kept; 0 if the provider does not report it.
	Retention time.Duration
	// Problem says why the queue cannot be used and what to do; "" if it can be used.
	Problem string
	// ExactlyOnce says that it delivers each message exactly once.
	ExactlyOnce bool
	// DeadLetterQueue has the messages that were received MaxReceives times; "" if
	// there is none.
	DeadLetterQueue string
	MaxReceives     int
}

// Open returns the provider in the settings. All sources and sinks of the provider share
// one again.Reporter, which logs an outage to log once.
func Open(cfg *config.Config, log zerolog.Logger) (Provider, error) {
	if cfg.Provider == config.GCP {
		return newGCP(cfg, retry.NewReporter(log, "Pub/Sub"))
	}
	return newAWS(cfg, retry.NewReporter(log, "SQS"))
}

// whence is the setting that the queue's name comes from.
func nameSetting(cfg *config.Config) string {
	if cfg.Origin("queue-name").Place == config.Derived {
		return "--job-id"
	}
	return "--queue-name"
}
