package sqs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/aws"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/pipeline/batch"
)

// mostBytes is how large a message, and all of a batch, may be in any queue; a queue
// may have a lower limit for a message (AWS: Amazon SQS message quotas).
const mostBytes = 1 << 20

// lowBytes is the limit that every queue had before there was mostBytes, for one
// that does not say.
const lowBytes = 256 << 10

// retention is how long a queue that is created here keeps what nobody reads: the
// longest that SQS knows.
const retention = 14 * 24 * time.Hour

// ErrClosed says that the Sink was closed.
var ErrClosed = errors.New("sqs: the event queue is closed")

// Options say which queue. Only Queue is required.
type Options struct {
	// Queue is the queue's name, or its address (https://…).
	Queue string
	// Region is the queue's region. Default: as the AWS command line finds it.
	Region string
	// Linger is how long an event waits for others of other Writes to go with it.
	// Default 10 ms.
	Linger time.Duration
}

// client is what a Sink needs of the SDK's *sqs.Client.
type client interface {
	aws.QueueFinder
	CreateQueue(context.Context, *sqs.CreateQueueInput, ...func(*sqs.Options)) (*sqs.CreateQueueOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
	SendMessageBatch(context.Context, *sqs.SendMessageBatchInput, ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error)
}

// A Sink sends events to a queue.
type Sink struct {
	client client
	queue  string
	url    string
	limit  int // bytes of a message
	sends  *batch.Batcher[string]
}

// Open finds the queue, with the credentials, region and endpoint of aws.Config, and
// creates it where it is missing.
func Open(ctx context.Context, opts Options) (*Sink, error) {
	if opts.Queue == "" {
		return nil, errors.New("sqs: no event queue is named")
	}
	cfg, err := aws.Config(ctx, opts.Region)
	if err != nil {
		return nil, fmt.Errorf("sqs: %w", err)
	}
	return open(ctx, sqs.NewFromConfig(cfg), opts)
}

func open(ctx context.Context, c client, opts Options) (*Sink, error) {
	s := &Sink{client: c, queue: opts.Queue, limit: lowBytes}
	if err := s.find(ctx); err != nil {
		return nil, err
	}
	out, err := c.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &s.url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameMaximumMessageSize},
	})
	if err == nil { // who may send need not be one who may ask
		if n, err := strconv.Atoi(out.Attributes[string(types.QueueAttributeNameMaximumMessageSize)]); err == nil && n > 0 {
			s.limit = min(n, mostBytes)
		}
	} else if aws.IsNoQueue(err) {
		return nil, aws.Explain("GetQueueAttributes", opts.Queue, err)
	}
	s.sends = batch.New(batch.Options[string]{
		Most: aws.BatchMost, MostBytes: mostBytes, Size: func(body string) int { return len(body) }, Linger: opts.Linger,
	}, s.send)
	return s, nil
}

// find finds the queue's address, or creates the queue.
func (s *Sink) find(ctx context.Context) error {
	url, err := aws.QueueURL(ctx, s.client, s.queue)
	switch {
	case err == nil:
		s.url = url
		return nil
	case !aws.IsNoQueue(err):
		return aws.Explain("GetQueueUrl", s.queue, err)
	}
	made, err := s.client.CreateQueue(ctx, &sqs.CreateQueueInput{
		QueueName:  &s.queue,
		Attributes: map[string]string{string(types.QueueAttributeNameMessageRetentionPeriod): strconv.Itoa(int(aws.Seconds(retention)))},
	})
	if err != nil {
		return aws.Explain("CreateQueue", s.queue, err)
	}
	s.url = *made.QueueUrl
	return nil
}

// Write sends events, and returns once SQS has them all; see pipeline.Sink.
func (s *Sink) Write(ctx context.Context, events []pipeline.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	bodies := make([]string, len(events))
	for i := range events {
		var err error
		if bodies[i], err = s.body(events[i]); err != nil {
			return fmt.Errorf("sqs: %w", err)
		}
	}
	errs := make([]error, len(events))
	var all sync.WaitGroup
	for i, body := range bodies {
		all.Go(func() {
			errs[i] = aws.Again(ctx, batch.ErrClosed, func() error { return s.sends.Do(ctx, body) })
		})
	}
	all.Wait()
	for _, err := range errs {
		switch {
		case err == nil:
		case errors.Is(err, batch.ErrClosed):
			return ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			return aws.Explain("SendMessage", s.queue, err)
		}
	}
	return nil
}

func (s *Sink) send(ctx context.Context, bodies []string) []error {
	in := sqs.SendMessageBatchInput{QueueUrl: &s.url}
	for i, body := range bodies {
		in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{Id: aws.EntryID(i), MessageBody: &body})
	}
	out, err := s.client.SendMessageBatch(ctx, &in)
	if err != nil {
		return aws.Failed(len(bodies), err)
	}
	id := func(e types.SendMessageBatchResultEntry) *string { return e.Id }
	return aws.Answers(len(bodies), out.Successful, id, out.Failed)
}

// Close sends what is on its way; see pipeline.Sink. Close again does nothing.
func (s *Sink) Close(ctx context.Context) error {
	s.sends.Close(ctx)
	return nil
}
