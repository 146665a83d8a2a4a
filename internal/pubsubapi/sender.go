package pubsubapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"github.com/ctworker/ctworker/internal/batch"
	"github.com/ctworker/ctworker/internal/retry"
)

// The limits of a Publish request (Google: Pub/Sub quotas and limits, 10 MB and 1,000
// messages). perMessage is added to the size of each message for its encoding.
const (
	maxMessages  = 1000
	requestBytes = 10_000_000
	perMessage   = 64
	// MaxMessageBytes is the maximum size of a message in bytes. It leaves some space for
	// the rest of the request.
	MaxMessageBytes = requestBytes - 10_000
)

// A Message is a message for a Sender.
type Message struct {
	Data string
	// Withheld, if set, is called before each attempt to send the message. If it returns true,
	// the message is not sent, and Send returns nil.
	Withheld func() bool
}

// A Sender publishes messages in batches.
type Sender struct {
	queue   *Queue
	batcher *batch.Batcher[Message]
}

// ErrSenderClosed is returned by Send and SendAll after Close.
var ErrSenderClosed = errors.New("pubsub: the sender is closed")

// NewSender returns a Sender for the queue. linger is how long a message waits for other messages,
// because one request can send several of them. A linger of 0 means 10 ms.
func (q *Queue) NewSender(linger time.Duration) *Sender {
	s := &Sender{queue: q}
	s.batcher = batch.New(batch.Options[Message]{
		MaxItems: maxMessages, MaxBytes: MaxMessageBytes + perMessage, Size: func(m Message) int { return len(m.Data) + perMessage }, Linger: linger,
	}, s.send)
	return s
}

// Check returns an error that wraps ErrTooLarge if the message is too large.
func (s *Sender) Check(m Message) error {
	if len(m.Data) > MaxMessageBytes {
		return fmt.Errorf("%w: %d bytes, but at most %d are accepted", ErrTooLarge, len(m.Data), MaxMessageBytes)
	}
	return nil
}

// Send publishes a message, and waits until Pub/Sub has stored it. Transient errors are retried
// until ctx ends. If a response is lost, the message is published twice.
func (s *Sender) Send(ctx context.Context, message Message) error {
	if err := s.Check(message); err != nil {
		return err
	}
	err := s.queue.clients.Retry(ctx, "Publish", batch.ErrClosed, func() error { return s.batcher.Do(ctx, message) })
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, batch.ErrClosed):
		return ErrSenderClosed
	}
	return s.queue.DescribeError("Publish", err)
}

// SendAll sends messages, and waits until Pub/Sub has stored all of them. It retries like Send,
// and returns the first error.
func (s *Sender) SendAll(ctx context.Context, messages []Message) error {
	for _, m := range messages {
		if err := s.Check(m); err != nil {
			return err
		}
	}
	on := make([]batch.Pending[Message], len(messages))
	for i, m := range messages {
		on[i] = s.batcher.Put(m)
	}
	return retry.All(len(messages), func(i int) error {
		return on[i].Wait(ctx)
	}, func(i int) error { return s.Send(ctx, messages[i]) })
}

func (s *Sender) send(ctx context.Context, messages []Message) []error {
	in := &pubsubpb.PublishRequest{Topic: s.queue.Topic}
	var at []int // for each message of the request, its index in messages
	for i, m := range messages {
		if m.Withheld != nil && m.Withheld() {
			continue
		}
		in.Messages = append(in.Messages, &pubsubpb.PubsubMessage{Data: []byte(m.Data)})
		at = append(at, i)
	}
	if len(at) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	out, err := s.queue.clients.Topics.Publish(ctx, in)
	switch {
	case err == nil && len(out.GetMessageIds()) == len(at):
		return nil
	case err == nil: // it is not known which messages were published, so all are sent again
		err = fmt.Errorf("%w: %d ids for %d messages", errIncompleteResponse, len(out.GetMessageIds()), len(at))
	}
	errs := make([]error, len(messages))
	for _, i := range at {
		errs[i] = err
	}
	return errs
}

// Close sends the messages that are waiting. Later calls of Send return ErrSenderClosed.
func (s *Sender) Close(ctx context.Context) { s.batcher.Close(ctx) }
