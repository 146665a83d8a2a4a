// Command go-sink is a worker program with its own sink, which writes a CSV file. Each task is the
// path of a file, and its result is the size of that file.
//
//	go build -o go-sink ./examples/go-sink
//	./go-sink --task-file tasks.json --csv sizes.csv --no-event-log-to-file
package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"flag"
	"os"
	"sync"

	"github.com/ctworker/ctworker"
	"github.com/ctworker/ctworker/pipeline"
)

func main() {
	path := flag.String("csv", "sizes.csv", "append the results to this `file`")
	ctworker.Main(size,
		ctworker.WithFlags(flag.CommandLine), // parsed by Main, with the worker's flags
		ctworker.WithSink(func(context.Context) (pipeline.Sink, error) { return openCSV(*path) }),
		ctworker.InProcess(),
		ctworker.WithDescription("Write the sizes of files to a CSV file, one task per file."),
	)
}

// size returns the size of the file whose path is the data of the task.
func size(_ context.Context, t *ctworker.Task) (ctworker.Result, error) {
	var path string
	if err := t.Decode(&path); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return info.Size(), nil
}

// csvSink is a pipeline.Sink that appends one row per event to a file.
type csvSink struct {
	mu     sync.Mutex
	file   *os.File
	closed bool
	err    error // error of a write that may have left a partial row, or os.ErrClosed; if set, Write writes nothing
}

func openCSV(path string) (*csvSink, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &csvSink{file: file}, nil
}

// row returns the columns of an event: the ID of the task, the type of the event, the result of the
// task as JSON, and the exception.
func row(e *pipeline.Event) []string {
	exception := e.Exception
	if exception == "" {
		exception = e.Outcome.Exception
	}
	return []string{e.TaskID, string(e.Type), string(e.Outcome.Result), exception}
}

// Write implements pipeline.Sink. The events are durable when it returns, because data that has
// been written to a file survives a kill of the process.
func (s *csvSink) Write(ctx context.Context, events []pipeline.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	var rows bytes.Buffer
	w := csv.NewWriter(&rows)
	for i := range events {
		if withheld := events[i].Withheld; withheld != nil && withheld() {
			continue // the lease on the task was lost, so another worker reports it
		}
		if err := w.Write(row(&events[i])); err != nil {
			return err
		}
	}
	w.Flush()
	if rows.Len() == 0 {
		return nil
	}
	_, s.err = s.file.Write(rows.Bytes())
	return s.err
}

// Close implements pipeline.Sink.
func (s *csvSink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed, s.err = true, os.ErrClosed
	return s.file.Close()
}
