package joblog

import (
	"context"
	"slices"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/eventlog"
)

// A Sink appends a line for each task event to a file. It is safe for concurrent use.
type Sink struct{ file *eventlog.Log }

// Open opens the job log at path for appending, and creates it if it does not exist. It can block for the
// same reasons as eventlog.Open, and uses log for the same messages. If the file is empty, the header is
// written together with the first line.
func Open(ctx context.Context, path string, log zerolog.Logger) (*Sink, error) {
	var lines Formatter
	file, err := eventlog.Open(ctx, path, eventlog.Options{
		Log: log, Name: "job log", Flag: "--joblog", Header: Header, Format: lines.Format,
		Recovery: "run the tasks without an event again",
	})
	if err != nil {
		return nil, err
	}
	return &Sink{file}, nil
}

// Write implements pipeline.Sink. It ignores Event.Withheld: if it withheld an event that another sink
// has written, the task would run again although its event exists.
func (s *Sink) Write(ctx context.Context, events []pipeline.Event) error {
	cloned := false
	for i := range events {
		if events[i].Withheld == nil {
			continue
		}
		if !cloned {
			events, cloned = slices.Clone(events), true
		}
		events[i].Withheld = nil
	}
	return s.file.Write(ctx, events)
}

// Close implements pipeline.Sink.
func (s *Sink) Close(ctx context.Context) error { return s.file.Close(ctx) }
