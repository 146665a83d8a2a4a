package sqs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/eventsize"
	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/internal/sqsapi"
	"github.com/ctworker/ctworker/pipeline"
)

// errClosed is returned by Write after Close.
var errClosed = errors.New("sqs: the event queue is closed")

// Options configures a Sink. Only Queue is required.
type Options struct {
	// Queue is the name or the URL of the queue. If the name ends in ".fifo", the queue is a FIFO
	// queue, in which each event is stored exactly once.
	Queue string
	// Region is the region of the queue. Defaults to the region in the AWS configuration.
	Region string
	// Linger is how long an event waits for events of other calls of Write, because one request
	// can send several events. Defaults to 10ms.
	Linger time.Duration
	// Log receives warnings about failed requests that are retried. The zero value discards them.
	Log zerolog.Logger
}

// Validate returns an error that lists every invalid field, or nil.
func (o Options) Validate() error {
	return optcheck.Join("sqs.Options", optcheck.Required("Queue", o.Queue), optcheck.NotNegative("Linger", o.Linger))
}

// A Sink sends events to a queue.
type Sink struct {
	queue   string
	encoder eventsize.Encoder
	sender  *sqsapi.Sender
}

// Open looks up the queue, with the default AWS configuration (the environment, the shared
// files, and the role of the container or the instance). It creates the queue if it does not
// exist. The caller must close the Sink.
func Open(ctx context.Context, opts Options) (*Sink, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	c, err := sqsapi.NewClient(ctx, opts.Region)
	if err != nil {
		return nil, err
	}
	return open(ctx, c, opts)
}

func open(ctx context.Context, c sqsapi.Client, opts Options) (*Sink, error) {
	queue, _, err := sqsapi.CreateQueue(ctx, c, opts.Queue, retry.ReporterFrom(ctx, opts.Log, "SQS"))
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

// Write sends events, and waits until SQS has stored all of them; see pipeline.Sink.
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

// Close sends the events that are waiting; see pipeline.Sink. A second Close does nothing.
func (s *Sink) Close(ctx context.Context) error {
	s.sender.Close(ctx)
	return nil
}

// text returns the JSON of the event as text that SQS accepts.
func text(e *pipeline.Event) string { return sqsapi.Text(e.AppendJSON(nil)) }
