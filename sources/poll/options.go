package poll

import (
	"context"
	"time"

	"github.com/rs/zerolog"

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

// Options say what is asked and how. Ask, Final, Most, Wait and Lease are required.
type Options struct {
	// Provider begins the errors, such as "sqs".
	Provider string
	// Ask makes one request for up to n messages, which waits for the first about as
	// long as Wait, and returns none where none came. Where it fails and is tried again,
	// try is the same. It is called from several goroutines at once.
	Ask func(ctx context.Context, n int, try string) ([]Message, error)
	// Final is nil for an error of Ask after which the same request may do better, and
	// else the error in words.
	Final func(error) error
	// Most is how many messages a request brings at most.
	Most int
	// Partial says that a request may bring fewer messages than it could though more
	// are there.
	Partial bool
	// Wait is how long Ask waits for a message.
	Wait time.Duration
	// WaitOut has Close wait for the requests under way, as one that is cancelled may take
	// messages with it. Default: for the time that an answer takes, and no longer.
	WaitOut bool
	// Lease is how long a message is held at first.
	Lease time.Duration
	// Raw has every message handed over as it is: Task.ID is the message's id, and
	// Task.Data its body, which need not be JSON.
	Raw bool
	// Malformed is told of each message that is no task: its body, and what is wrong
	// with it. It is acknowledged once Malformed has returned nil. Default: the message
	// is left in the queue, and an error ends the run. It may be called from
	// several goroutines at once; its ctx ends with the message's lease.
	Malformed func(ctx context.Context, body string, reason error) error
	// Log receives what goes wrong and is tried again.
	Log zerolog.Logger
	// Limit is how long an answer may take beside Wait, before the request is given up
	// and made anew. Default 20 s.
	Limit time.Duration
	// Late is how much longer than Wait an answer may take, before it is taken for one
	// that does not come. Default 3 s.
	Late time.Duration
}

func (o Options) withDefaults() Options {
	if o.Limit <= 0 {
		o.Limit = 20 * time.Second
	}
	if o.Late <= 0 {
		o.Late = 3 * time.Second
	}
	return o
}
