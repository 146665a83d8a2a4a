package pubsub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/api/option"

	"github.com/ctworker/ctworker/internal/eventsize"
	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/internal/pubsubapi"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/pipeline"
)

// errClosed is returned by Write after Close.
var errClosed = errors.New("pubsub: the event queue is closed")

// Options configures a Sink. Only Queue and Project are required.
type Options struct {
	// Queue is the name of the queue. The names of the topic and the subscription are Queue
	// with the suffixes "-topic" and "-subscription".
	Queue string
	// Project is the project id.
	Project string
	// Region is the region whose endpoint is used. Defaults to the global endpoint.
	Region string
	// ClientOptions are options for the API clients, such as credentials. Defaults to
	// Application Default Credentials.
	ClientOptions []option.ClientOption
	// ExactlyOnce enables exactly-once delivery for a subscription that Open creates. If a
	// subscription without exactly-once delivery exists, Open returns an error.
	ExactlyOnce bool
	// Linger is how long an event waits for events of other calls of Write, because one request
	// can send several events. Defaults to 10 ms.
	Linger time.Duration
	// Log receives warnings about failed requests that are retried. The zero value discards them.
	Log zerolog.Logger

	suspectTime time.Duration // see retry.Options; tests shorten it
}

// Validate returns an error that lists every invalid field, or nil.
func (o Options) Validate() error {
	return optcheck.Join("pubsub.Options", optcheck.Required("Queue", o.Queue), optcheck.NotNegative("Linger", o.Linger))
}

// A Sink sends events to a queue.
type Sink struct {
	clients *pubsubapi.Clients
	encoder eventsize.Encoder
	sender  *pubsubapi.Sender
	closing sync.Once
}

// Open looks up the queue. It creates the topic and the subscription if they are missing,
// because messages published to a topic without a subscription are lost. If events could not be
// received from an existing subscription, Open returns an error. The caller must close the Sink.
func Open(ctx context.Context, opts Options) (*Sink, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	clients, err := pubsubapi.NewClients(ctx, pubsubapi.Location{Project: opts.Project, Region: opts.Region}, opts.ClientOptions...)
	if err != nil {
		return nil, err
	}
	clients.Reporter, clients.SuspectTime = retry.ReporterFrom(ctx, opts.Log, "Pub/Sub"), opts.suspectTime
	queue := clients.Queue(opts.Queue)
	if _, err := queue.Create(ctx, opts.ExactlyOnce); err != nil {
		return nil, errors.Join(err, clients.Close())
	}
	return &Sink{
		clients: clients, sender: queue.NewSender(opts.Linger),
		encoder: eventsize.Encoder{Queue: opts.Queue, MaxBytes: pubsubapi.MaxMessageBytes, Render: text},
	}, nil
}

// Write sends events, and waits until Pub/Sub has stored all of them; see pipeline.Sink.
func (s *Sink) Write(ctx context.Context, events []pipeline.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	messages := make([]pubsubapi.Message, 0, len(events))
	for i := range events {
		all, err := s.encoder.Encode(events[i])
		if err != nil {
			return fmt.Errorf("pubsub: %w", err)
		}
		for _, m := range all {
			messages = append(messages, pubsubapi.Message{Data: m.Body, Withheld: events[i].Withheld})
		}
	}
	switch err := s.sender.SendAll(ctx, messages); {
	case err == nil:
		return nil
	case errors.Is(err, pubsubapi.ErrSenderClosed):
		return errClosed
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return err
	}
}

// Close sends the events that are waiting, and closes the clients; see pipeline.Sink. A second
// Close does nothing.
func (s *Sink) Close(ctx context.Context) (err error) {
	s.closing.Do(func() {
		s.sender.Close(ctx)
		err = s.clients.Close()
	})
	return err
}

func text(e *pipeline.Event) string { return string(e.AppendJSON(nil)) }
