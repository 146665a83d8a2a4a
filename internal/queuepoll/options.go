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
	// wait, which is between 1 s and Wait. If none arrives, it returns no messages. try identifies
	// the request; its retries have the same value. Several goroutines call Receive concurrently.
	Receive func(ctx context.Context, n int, wait time.Duration, try string) ([]Message, error)
	// Classify reports whether a failed request may succeed later.
	Classify func(error) retry.Class
	// Explain wraps a permanent error of Receive with a message that says what to do. After that
	// error, the Poller sends no more requests.
	Explain func(error) error
	// MaxBatchSize is the maximum number of messages per request.
	MaxBatchSize int
	// PartialBatches reports that a response may have fewer messages than requested although the
	// queue has more.
	PartialBatches bool
	// Wait is the maximum time that Receive waits for a message; see MaxWait.
	Wait time.Duration
	// WaitForOpenPolls makes Close wait up to Wait longer for open requests. If the provider sends
	// messages to a request that was canceled, they stay in flight until their lease expires.
	// Otherwise, Close waits for about twice the usual response time.
	WaitForOpenPolls bool
	// Lease is the initial lease duration of a message.
	Lease time.Duration
	// Raw disables parsing: Task.ID is the message id, and Task.Data is the body, which
	// need not be JSON.
	Raw bool
	// OnMalformed is called with the body of each malformed message and the reason. The message is
	// acknowledged once OnMalformed has returned nil. Several goroutines may call OnMalformed
	// concurrently. Its ctx ends with the lease of the message. Defaults to nil: a malformed
	// message is then released, and Receive returns an error.
	OnMalformed func(ctx context.Context, body string, reason error) error
	// Log receives warnings about malformed messages that could not be reported or deleted.
	Log zerolog.Logger
	// Reporter logs failed requests that are retried. Defaults to one that writes to Log.
	Reporter *retry.Reporter
	// SuspectTime is passed to retry.Do; see retry.Options.
	SuspectTime time.Duration
	// ReceiveTimeout is how long a response may take in addition to the wait. After that, the
	// request is canceled and retried. Defaults to 20s.
	ReceiveTimeout time.Duration
	// SlowAfter is how long a response may take in addition to the wait before the queue
	// counts as unreachable. Defaults to 3s.
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
