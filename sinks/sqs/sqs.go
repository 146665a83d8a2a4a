package sqs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ctworker/ctworker/internal/eventsize"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/internal/sqsapi"
	"github.com/ctworker/ctworker/pipeline"
)

// errClosed says that the Sink was closed.
var errClosed = errors.New("sqs: the event queue is closed")

// Options say which queue. Only Queue is required.
type Options struct {
	// Queue is the queue's name, or its address (https://…). To one whose name ends in
	// aws.FIFO each event is sent exactly once.
	Queue string
	// Region is the queue's region. Default: as the AWS command line finds it.
	Region string
	// Linger is how long an event waits for others of other Writes to go with it.
	// Default 10 ms.
	Linger time.Duration
	// Reporter logs failed requests that are retried. May be nil.
	Reporter *retry.Reporter
}

// A Sink sends events to a queue.
type Sink struct {
	queue   string
	encoder eventsize.Encoder
	sender  *sqsapi.Sender
}

// Open finds the queue, with the credentials, region and endpoint of aws.Config, and
// creates it where it is missing.
func Open(ctx context.Context, opts Options) (*Sink, error) {
	if opts.Queue == "" {
		return nil, errors.New("sqs: no event queue is named")
	}
	c, err := sqsapi.NewClient(ctx, opts.Region)
	if err != nil {
		return nil, err
	}
	return open(ctx, c, opts)
}

func open(ctx context.Context, c sqsapi.Client, opts Options) (*Sink, error) {
	queue, _, err := sqsapi.CreateQueue(ctx, c, opts.Queue, opts.Reporter)
	if err != nil {
		return nil, err
	}
	limit, err := queue.Limit(ctx)
	if err != nil {
		return nil, err
	}
	return &Sink{
		queue: opts.Queue, encoder: eventsize.Encoder{Queue: opts.Queue, MaxBytes: limit, Render: text},
		sender: sqsapi.NewSender(queue, limit, opts.Linger),
	}, nil
}

// Write sends events, and returns once SQS has them all; see pipeline.Sink.
func (s *Sink) Write(ctx context.Context, events []pipeline.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var messages []sqsapi.Message
	for i := range events {
		all, err := s.encoder.Encode(events[i])
		if err != nil {
			return fmt.Errorf("sqs: %w", err)
		}
		for _, m := range all {
			messages = append(messages, sqsapi.Message{Body: m.Body, Group: cmp.Or(events[i].TaskID, events[i].Hostname), Key: m.Key, Withheld: events[i].Withheld})
		}
	}
	switch err := s.sender.SendAll(ctx, messages); {
	case err == nil:
		return nil
	case errors.Is(err, sqsapi.ErrSenderClosed):
		return errClosed
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return err
	}
}

// Close sends what is on its way; see pipeline.Sink. Close again does nothing.
func (s *Sink) Close(ctx context.Context) error {
	s.sender.Close(ctx)
	return nil
}

// text is the event's JSON as SQS takes it.
func text(e *pipeline.Event) string { return sqsapi.Text(e.AppendJSON(nil)) }
