package queuepoll

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/pipeline"
)

// A Message is a received queue message.
type Message struct {
	// ID is the message id that the provider assigned.
	ID   string
	Body string
	// Attempt is the receive count, from 1.
	Attempt int
	// Lease is the lease on the message. Its Ack deletes the message.
	Lease pipeline.Lease
}

// Options configures a Poller. Receive, Classify, Explain, MaxBatchSize, Wait and Lease are
// required.
type Options struct {
	// Provider prefixes errors, such as "sqs".
	Provider string
	// Action names the request in the log, such as "ReceiveMessage".
	Action string
	// Receive sends one request for up to n messages. It waits for the first message for about
	// wait, which is between 1 s and Wait. If no message arrives, it returns no messages and no
	// error. try identifies the request; a retry of the request has the same try. Several
	// goroutines call Receive concurrently.
	Receive func(ctx context.Context, n int, wait time.Duration, try string) ([]Message, error)
	// Classify reports whether a failed request may succeed later.
	Classify func(error) retry.Class
	// Explain wraps a permanent error of Receive with a message that says what to do. After that
	// error, the Poller sends no more requests.
	Explain func(error) error
	// MaxBatchSize is the maximum number of messages per request.
	MaxBatchSize int
	// PartialBatches means that a response may contain fewer messages than requested even if the
	// queue contains more messages.
	PartialBatches bool
	// Wait is the maximum time that Receive waits for a message; see MaxWait.
	Wait time.Duration
	// WaitForOpenPolls adds Wait to the time for which Close waits for open requests, which is
	// otherwise about twice the average response time. Set it if the provider sends messages even
	// to a canceled request: such messages stay in flight until their leases expire.
	WaitForOpenPolls bool
	// Lease is the initial lease duration of a message.
	Lease time.Duration
	// Raw disables parsing: Task.ID is the message id, and Task.Data is the body, which
	// need not be JSON.
	Raw bool
	// OnMalformed is called with the body of each malformed message and the reason. The message is
	// acknowledged after OnMalformed has returned nil. Several goroutines may call OnMalformed
	// concurrently. ctx ends when the lease of the message ends. If OnMalformed is nil, a malformed
	// message is released, and Receive returns an error.
	OnMalformed func(ctx context.Context, body string, reason error) error
	// Log receives warnings about malformed messages that could not be reported or deleted.
	Log zerolog.Logger
	// Reporter logs failed requests that are retried. Defaults to a Reporter that writes to Log.
	Reporter *retry.Reporter
	// SuspectTime is passed to retry.Do; see retry.Options.
	SuspectTime time.Duration
	// ReceiveTimeout is how long a response may take in addition to the wait. A request without a
	// response after this time is canceled and retried. Defaults to 20s.
	ReceiveTimeout time.Duration
	// SlowAfter is how long a response may take in addition to the wait. After this time, the queue
	// is considered unreachable until the response arrives. Defaults to 3s.
	SlowAfter time.Duration
}

func (o Options) withDefaults() Options {
	if o.ReceiveTimeout <= 0 {
		o.ReceiveTimeout = 20 * time.Second
	}
	if o.SlowAfter <= 0 {
		o.SlowAfter = 3 * time.Second
	}
	if o.Reporter == nil {
		o.Reporter = retry.NewReporter(o.Log, o.Provider)
	}
	return o
}
