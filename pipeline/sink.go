package pipeline

import "context"

// Sink receives events.
type Sink interface {
	// Write writes events. It returns nil only if every event is durable, which means that the
	// event survives a kill of this process. If Write returns an error, some of the events may be
	// durable; the caller treats all of them as not written. Write may be called concurrently. It
	// does not retain events. When ctx is done, Write returns promptly. If some events are not
	// durable at that time, it returns an error that wraps ctx's error.
	//
	// Write skips an event whose Withheld function returns true; that is not an error. It calls
	// Withheld immediately before each attempt to write the event.
	Write(ctx context.Context, events []Event) error

	// Close flushes the Sink and releases its resources. It is called after the last Write has
	// returned. It returns at the latest when ctx is done. Further calls do nothing and return nil.
	// After Close, Write returns an error.
	Close(ctx context.Context) error
}
