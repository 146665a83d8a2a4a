package queuepoll

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/pipeline"
)

// A Message is what a queue hands over.
type Message struct {
	// ID is the provider's name for it.
	ID   string
	Body string
	// Attempt is how often it has been handed over, from 1.
	Attempt int
	// Lease is the hold on it. Its Ack deletes the message.
	Lease pipeline.Lease
}

// Options configures a Poller. Ask, Classify, Explain, Most, Wait and Lease are required.
type Options struct {
	// Provider prefixes errors, such as "sqs".
	Provider string
	// Action names the request in the log, such as "ReceiveMessage".
	Action string
	// Ask makes one request for up to n messages. It waits up to about wait, which is
	// between 1 s and Wait, for the first message, and returns no messages if none arrive.
	// A repetition of a failed request has the same try. Ask is called from several
	// goroutines concurrently.
	Receive func(ctx context.Context, n int, wait time.Duration, try string) ([]Message, error)
	// Classify reports whether a failed request may succeed later.
	Classify func(error) retry.Class
	// Explain wraps a permanent error of Ask with a message that says what to do. The
	// Poller makes no more requests after it.
	Explain func(error) error
	// Most is how many messages a request brings at most.
	MaxBatchSize int
	// Partial says that a request may bring fewer messages than it could though more
	// are there.
	PartialBatches bool
	// Wait is the maximum time that Ask waits for a message; see MaxWait.
	Wait time.Duration
	// WaitOut has Close wait for the requests under way, as one that is cancelled may take
	// messages with it. Default: for the time that an answer takes, and no longer.
	WaitForOpenPolls bool
	// Lease is how long a message is held at first.
	Lease time.Duration
	// Raw has every message handed over as it is: Task.ID is the message's id, and
	// Task.Data its body, which need not be JSON.
	Raw bool
	// Malformed is told of each message that is no task: its body, and what is wrong
	// with it. It is acknowledged once Malformed has returned nil. Default: the message
	// is left in the queue, and an error ends the run. It may be called from
	// several goroutines at once; its ctx ends with the message's lease.
	OnMalformed func(ctx context.Context, body string, reason error) error
	// Log receives what goes wrong and is tried again.
	Log zerolog.Logger
	// Reporter logs failed requests that are repeated. Defaults to one that writes to Log.
	Reporter *retry.Reporter
	// SuspectTime is passed to again.Do; see again.Options.
	SuspectTime time.Duration
	// Limit is how long an answer may take beside Wait, before the request is given up
	// and made anew. Default 20 s.
	ReceiveTimeout time.Duration
	// Late is how much longer than Wait an answer may take, before it is taken for one
	// that does not come. Default 3 s.
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
