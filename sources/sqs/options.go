package sqs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/internal/sqsapi"
)

// MaxHold is for how long SQS lets a message be held in all, from its receive
// (AWS: Amazon SQS visibility timeout).
const MaxHold = 12 * time.Hour

// Options say which queue. Only Queue is required.
type Options struct {
	// Queue is the queue's name, or its address (https://…).
	Queue string
	// Region is the queue's region. Default: as the AWS command line finds it.
	Region string
	// Lease is how long a message is asked for at receive, in whole seconds: as long
	// as it may be until its lease is first renewed. Default 60 s.
	Lease time.Duration
	// Wait is how long SQS waits for a message before it answers that there is none:
	// whole seconds, 20 at most, which is the default. It is no more than a third of
	// Lease, which is counted from the request: see poll.MaxWait.
	Wait time.Duration
	// Linger is how long an acknowledgment, release or extension waits for others
	// to go with it. Default 10 ms.
	Linger time.Duration
	// Raw has every message handed over as it is: Task.ID is the message's id, and
	// Task.Data its body, which need not be JSON.
	Raw bool
	// Malformed is told of each message that is no task: its body, and what is wrong
	// with it. It is deleted once Malformed has returned nil. Default: the message
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
		o.Reporter = retry.NewReporter(o.Log, "SQS")
	}
	if o.Lease <= 0 {
		o.Lease = time.Minute
	}
	if o.Wait <= 0 {
		o.Wait = maxWait
	}
	return o
}

const maxWait = 20 * time.Second

func (o Options) validate() error {
	var errs []error
	if o.Queue == "" {
		errs = append(errs, errors.New("no queue is named"))
	}
	if o.Lease < time.Second || o.Lease > MaxHold {
		errs = append(errs, fmt.Errorf("a lease of %v: SQS has from 1 s to 12 h", o.Lease))
	}
	if o.Wait < time.Second || o.Wait > maxWait {
		errs = append(errs, fmt.Errorf("a wait of %v: SQS has from 1 s to 20 s", o.Wait))
	}
	return errors.Join(errs...)
}

// Open finds the queue, with the credentials, region and endpoint of aws.Config.
func Open(ctx context.Context, opts Options) (*Source, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("sqs: %w", err)
	}
	c, err := sqsapi.NewClient(ctx, opts.Region)
	if err != nil {
		return nil, err
	}
	return open(ctx, c, opts)
}

// client is what a Source needs of the SDK's *sqs.Client.
type client interface {
	sqsapi.QueueFinder
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
}

// open finds the queue. opts has its defaults.
func open(ctx context.Context, c client, opts Options) (*Source, error) {
	url, err := sqsapi.QueueURL(ctx, c, opts.Queue, opts.Reporter)
	if err != nil {
		return nil, err
	}
	return newSource(c, url, opts), nil
}
