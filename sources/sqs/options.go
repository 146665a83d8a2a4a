package sqs

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/internal/sqsapi"
)

// Options configures a Source. Only Queue is required.
type Options struct {
	// Queue is the name or the URL of the queue.
	Queue string
	// Region is the region of the queue. Defaults to the region in the AWS configuration.
	Region string
	// Lease is the visibility timeout of a received message, in whole seconds from 1 s to
	// 12 hours. The caller must extend the lease before this time is over. Defaults to 60s.
	Lease time.Duration
	// Wait is how long a request waits for a message, in whole seconds from 1 s to 20 s.
	// Defaults to 20s. Wait is limited to a third of Lease, because a lease is counted from the
	// request.
	Wait time.Duration
	// Linger is how long an acknowledgment, release or extension waits for others, because one
	// request can send several of them. Defaults to 10ms.
	Linger time.Duration
	// Raw disables parsing: Task.ID is the message id, and Task.Data is the body, which need
	// not be JSON.
	Raw bool
	// OnMalformed is called with the body of each malformed message and the reason. The message is
	// deleted after OnMalformed has returned nil. Several goroutines may call OnMalformed
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
		o.Wait = maxWait
	}
	return o
}

const maxWait = 20 * time.Second

// Validate returns an error that lists every invalid field, or nil.
func (o Options) Validate() error {
	return optcheck.Join("sqs.Options", optcheck.Required("Queue", o.Queue), optcheck.NotNegative("Linger", o.Linger),
		optcheck.Between("Lease", o.Lease, time.Second, sqsapi.MaxHold), optcheck.Between("Wait", o.Wait, time.Second, maxWait))
}

// Open looks up the queue. It uses the default AWS configuration (the environment, the shared
// files, and the role of the container or the instance). The caller must close the Source.
func Open(ctx context.Context, opts Options) (*Source, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	opts.reporter = retry.ReporterFrom(ctx, opts.Log, "SQS")
	c, err := sqsapi.NewClient(ctx, opts.Region)
	if err != nil {
		return nil, err
	}
	return open(ctx, c, opts)
}

// client contains the methods of the SDK's *sqs.Client that a Source needs.
type client interface {
	sqsapi.QueueFinder
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
}

// open looks up the queue. opts must already contain the default values.
func open(ctx context.Context, c client, opts Options) (*Source, error) {
	url, err := sqsapi.QueueURL(ctx, c, opts.Queue, opts.reporter)
	if err != nil {
		return nil, err
	}
	return newSource(c, url, opts), nil
}
