package cloudqueue

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/pipeline"
)

// Provider gives access to the two queues of a job: the task queue and the event queue.
type Provider interface {
	// Tasks returns the task queue, and Events the event queue.
	Tasks() Queue
	Events() Queue
	// OpenSource opens the task queue, which must exist.
	OpenSource(ctx context.Context, opts SourceOptions) (pipeline.Source, error)
	// OpenSink opens the event queue, and creates it if it does not exist.
	OpenSink(ctx context.Context) (pipeline.Sink, error)
	// ValidateLease returns an error if d, lease or the configured retry delay exceeds a limit of
	// the provider. d is the maximum time that a task may take.
	ValidateLease(d, lease time.Duration) error
}

// SourceOptions configures the source that OpenSource opens, in addition to the settings.
type SourceOptions struct {
	// OnMalformed is called for each malformed message; see sources/sqs.Options.
	OnMalformed func(ctx context.Context, body string, reason error) error
	Log         zerolog.Logger
}

// Queue gives access to one queue at the provider. The queue need not exist. If a method needs an
// existing queue and the queue does not exist, the method returns an error that wraps ErrNotFound.
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
	// OpenReader opens the queue to read its messages without parsing them. The Data of each
	// returned task is the body of a message.
	OpenReader(ctx context.Context, log zerolog.Logger) (pipeline.Source, error)
}

// A Loader sends tasks to a queue.
type Loader interface {
	// Prepare returns the function send, which sends the task, or an error if the queue cannot accept
	// the task. send returns when the provider has stored the task. Several send functions may be
	// called concurrently, so that the Loader can send several tasks in one request.
	Prepare(task pipeline.Task) (send func(ctx context.Context) error, err error)
	// Close sends the tasks that wait for a batch, and closes the connection.
	Close(ctx context.Context)
}

// Status describes a queue. The numbers of messages are approximate on SQS.
type Status struct {
	// CountsUnavailable is true if the provider does not report numbers of messages. Visible,
	// InFlight and Delayed are then 0.
	CountsUnavailable bool
	// Visible is the number of messages that can be received now. InFlight is the number of
	// messages that were received and not settled. Delayed is the number of messages that cannot be
	// received yet.
	Visible, InFlight, Delayed int64
	// Retention is how long the provider keeps a message. It is 0 if the provider does not report
	// this time.
	Retention time.Duration
	// Problem explains why the queue cannot be used, and what to do. It is "" if the queue can be
	// used.
	Problem string
	// ExactlyOnce reports whether the queue delivers each message exactly once.
	ExactlyOnce bool
	// DeadLetterQueue is the name of the queue to which the provider moves a message that was
	// received MaxReceives times. It is "" if there is no such queue.
	DeadLetterQueue string
	MaxReceives     int
}

// Open returns the provider that cfg selects. All sources and sinks of the provider share one
// retry.Reporter, which logs each outage only once.
func Open(cfg *config.Config, log zerolog.Logger) (Provider, error) {
	if cfg.Provider == config.GCP {
		return newGCP(cfg, retry.NewReporter(log, "Pub/Sub"))
	}
	return newAWS(cfg, retry.NewReporter(log, "SQS"))
}

// nameSetting returns the flag that determines the queue name, for use in errors.
func nameSetting(cfg *config.Config) string {
	if cfg.Origin("queue-name").Place == config.Derived {
		return "--job-id"
	}
	return "--queue-name"
}
