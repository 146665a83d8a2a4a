package cloudqueue

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/pipeline"
)

// A Provider gives access to the two queues of a job.
type Provider interface {
	// Tasks returns the task queue, and Events the event queue.
	Tasks() Queue
	Events() Queue
	// OpenSource opens the task queue, which must exist.
	OpenSource(ctx context.Context, opts SourceOptions) (pipeline.Source, error)
	// OpenSink opens the event queue, and creates it if it does not exist.
	OpenSink(ctx context.Context) (pipeline.Sink, error)
	// ValidateLease returns an error if a time exceeds a limit of the provider. d is the maximum
	// time that a task may take. The times are d, lease and the configured retry delay.
	ValidateLease(d, lease time.Duration) error
}

// SourceOptions configures the source that OpenSource opens, in addition to the settings.
type SourceOptions struct {
	// OnMalformed is called for each malformed message; see sources/sqs.Options.
	OnMalformed func(ctx context.Context, body string, reason error) error
	Log         zerolog.Logger
}

// A Queue is one queue, which may not exist. If it does not exist, methods that need it return an
// error that wraps ErrNotFound.
type Queue interface {
	// Name returns the name that the queue has at the provider.
	Name() string
	// Status requests the state of the queue.
	Status(ctx context.Context) (Status, error)
	// Create creates the queue if it does not exist.
	Create(ctx context.Context) (created bool, err error)
	// Purge deletes all messages in the queue.
	Purge(ctx context.Context) error
	// Delete deletes the queue and all its messages.
	Delete(ctx context.Context) error
	// OpenLoader opens the queue for sending tasks.
	OpenLoader(ctx context.Context) (Loader, error)
	// OpenReader opens the queue to read its messages without parsing them. The Data of each task
	// is the body of a message.
	OpenReader(ctx context.Context, log zerolog.Logger) (pipeline.Source, error)
}

// A Loader sends tasks to a queue.
type Loader interface {
	// Prepare returns a function that sends the task, or an error if the queue cannot accept the
	// task. send returns once the provider has stored the task. Several goroutines may call their
	// send functions concurrently; the tasks are then sent in batches.
	Prepare(task pipeline.Task) (send func(ctx context.Context) error, err error)
	// Close sends the tasks that are waiting, and frees the resources.
	Close(ctx context.Context)
}

// Status describes a queue. The numbers of messages are approximate on SQS.
type Status struct {
	// CountsUnavailable reports that the provider does not report numbers of messages.
	CountsUnavailable bool
	// Visible is the number of messages that can be received, InFlight of those that have been
	// received and not settled, and Delayed of those that cannot be received yet.
	Visible, InFlight, Delayed int64
	// Retention is how long a message is kept; 0 if the provider does not report it.
	Retention time.Duration
	// Problem describes why the queue cannot be used and what to do; "" if it can be used.
	Problem string
	// ExactlyOnce reports whether the queue delivers each message exactly once.
	ExactlyOnce bool
	// DeadLetterQueue is the name of the queue to which messages move that were received
	// MaxReceives times. It is "" if there is none.
	DeadLetterQueue string
	MaxReceives     int
}

// Open returns the provider in the settings. All sources and sinks of the provider share
// one retry.Reporter, so that an outage is logged once.
func Open(cfg *config.Config, log zerolog.Logger) (Provider, error) {
	if cfg.Provider == config.GCP {
		return newGCP(cfg, retry.NewReporter(log, "Pub/Sub"))
	}
	return newAWS(cfg, retry.NewReporter(log, "SQS"))
}

// nameSetting returns the setting that the queue name comes from, for errors.
func nameSetting(cfg *config.Config) string {
	if cfg.Origin("queue-name").Place == config.Derived {
		return "--job-id"
	}
	return "--queue-name"
}
