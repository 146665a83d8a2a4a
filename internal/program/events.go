package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ctworker/ctworker/internal/queue"
	"github.com/ctworker/ctworker/sinks/eventlog"
	"github.com/ctworker/ctworker/sinks/progress"
)

// EventsOptions are what "ctworker events" takes beside the settings.
type EventsOptions struct {
	// Output is the file that events are appended to; "-" is standard output.
	Output string
	// Idle is after how long without an event it ends; 0 is never.
	Idle time.Duration
}

// Events writes the events of the event queue to a file and deletes what it has
// written, until a signal ends it. It returns the exit code.
func (t *Tool) Events(opts EventsOptions) int {
	stop, err := t.start()
	if err != nil {
		return t.usage(err)
	}
	defer stop()
	events := t.provider.Events()
	source, err := events.OpenReader(t.ctx, t.log)
	if errors.Is(err, queue.ErrMissing) {
		err = fmt.Errorf("there is no event queue %s: the first worker of the job creates it, or %q: %w", events.Name(), "ctworker queue create", err)
	}
	if err != nil {
		return t.fail(err)
	}
	var lines queue.Lines = writer{t.Stdout}
	if opts.Output != "-" {
		log, err := eventlog.Open(opts.Output)
		if err != nil {
			return t.fail(errors.Join(err, source.Close(context.Background())))
		}
		defer func() { _ = log.Close(context.Background()) }() // each line is durable already
		lines = log
	}
	follow := queue.StartFollow(t.ctx, source, t.provider.Batch(), lines, opts.Idle, t.log)
	stopProgress := func() {}
	if opts.Output != "-" || !t.terminal { // or it would stand between the events
		stopProgress = progress.StartLines(t.log, progressInterval, func() progress.Status {
			_, total := follow.Counts()
			return progress.Status{Done: total}
		}).Stop
	}
	err = follow.Wait()
	stopProgress()
	counts, total := follow.Counts()
	_, _ = fmt.Fprintf(t.Stderr, "%d events have been written and deleted from the queue %s%s\n", total, events.Name(), perType(counts))
	if err != nil {
		return t.fail(err)
	}
	return ExitOK
}

// perType is the counts in words, or "" without any.
func perType(counts map[string]int64) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%d %s", counts[name], name))
	}
	if len(all) == 0 {
		return ""
	}
	return ": " + strings.Join(all, ", ")
}

// writer writes lines to standard output.
type writer struct{ w io.Writer }

// WriteLines writes whole lines, with one write.
func (w writer) WriteLines(_ context.Context, lines [][]byte) error {
	_, err := w.w.Write(append(bytes.Join(lines, []byte("\n")), '\n'))
	return err
}
