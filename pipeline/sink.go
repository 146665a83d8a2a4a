package pipeline

import "context"

// A Sink is where events go.
type Sink interface {
	// Write returns nil once every event is durable: kept even if this process
	// is killed the next moment. On an error some of them may be durable; the
	// caller counts none of them as told. It may be called from several
	// goroutines at once, keeps no reference to events, and returns promptly
	// with ctx's error when ctx ends.
	//
	// Write skips an event whose Withheld function returns true; that is not an error. It
	// calls Withheld as late as possible, before each attempt to write the event.
	Write(ctx context.Context, events []Event) error

	// Close flushes and releases what the Sink holds. It is called once, after
	// the last Write has returned. ctx bounds how long it may take.
	Close(ctx context.Context) error
}
