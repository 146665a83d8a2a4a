package app

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

	"github.com/ctworker/ctworker/internal/cloudqueue"
	"github.com/ctworker/ctworker/internal/progress"
	"github.com/ctworker/ctworker/sinks/eventlog"
)

// EventsOptions are the options of "ctworker events" in addition to the settings.
type EventsOptions struct {
	// Output is the file that events are appended to; "-" is standard output.
	Output string
	// Idle is the time without an event after which the command exits. 0 disables this exit.
	Idle time.Duration
}

// Events writes the events of the event queue to a file, and then deletes them from the queue. It
// ends after a signal, or when no event has arrived for opts.Idle, and returns the exit code.
func (t *Tool) Events(opts EventsOptions) int {
	stop, err := t.start()
	if err != nil {
		return t.usage(err)
	}
	defer stop()
	events := t.provider.Events()
	source, err := events.OpenReader(t.ctx, t.log)
	if errors.Is(err, cloudqueue.ErrNotFound) {
		err = fmt.Errorf("event queue %s does not exist yet: start a worker, which creates it, or run %q: %w", events.Name(), "ctworker queue create", err)
	}
	if err != nil {
		return t.fail(err)
	}
	var lines cloudqueue.LineWriter = stdoutWriter{t.Stdout, t.ctx}
	if opts.Output != "-" {
		log, err := eventlog.Open(t.ctx, opts.Output, eventlog.Options{
			Log: t.log, Flag: "--output",
			Recovery: "start the command again: events that were not written remain in the queue",
		})
		if err != nil {
			return t.fail(errors.Join(err, source.Close(context.Background())))
		}
		defer func() { _ = log.Close(context.Background()) }() // each line is durable already
		lines = log
	}
	follow := cloudqueue.StartTail(t.ctx, source, lines, opts.Idle, t.log)
	stopProgress := func() {}
	if opts.Output != "-" || !t.display.terminal { // on a terminal, progress would mix with the events
		stopProgress = progress.StartLines(t.log, progressInterval, func() progress.Status {
			_, total := follow.Counts()
			return progress.Status{Done: total, Moves: "events"}
		}).Stop
	}
	err = follow.Wait()
	stopProgress()
	counts, total := follow.Counts()
	t.print("%d events written and deleted from the queue %s%s\n", total, events.Name(), perType(counts))
	t.printRest(events)
	if err != nil {
		return t.fail(err)
	}
	return ExitOK
}

// restTime is the time limit for asking how many messages remain.
const restTime = 5 * time.Second

// printRest prints how many messages remain in the queue, if the provider reports it.
func (t *Tool) printRest(events cloudqueue.Queue) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), restTime)
	defer cancel()
	s, err := events.Status(ctx)
	if err != nil || s.CountsUnavailable || s.Visible+s.InFlight+s.Delayed == 0 {
		return
	}
	t.print("about %d messages remain in the queue (%d waiting, %d in flight, %d delayed)\n", s.Visible+s.InFlight+s.Delayed, s.Visible, s.InFlight, s.Delayed)
}

// perType formats the counts, or returns "" if there are none.
func perType(counts map[string]int64) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%d %s", counts[name], printable(name)))
	}
	if len(all) == 0 {
		return ""
	}
	return ": " + strings.Join(all, ", ")
}

// stdoutLinger is how long a write to standard output may block after a signal.
const stdoutLinger = 2 * time.Second

// stdoutWriter writes lines to standard output. After a signal, it waits for a slow reader for at
// most stdoutLinger. Events that were not written are not deleted from the queue.
type stdoutWriter struct {
	w       io.Writer
	stopped context.Context // done after the first signal
}

// WriteLines writes the lines with one write. If it returns an error, some of the lines may have
// been written.
func (w stdoutWriter) WriteLines(ctx context.Context, lines [][]byte) error {
	text := append(bytes.Join(lines, []byte("\n")), '\n')
	written := make(chan error, 1)
	go func() { // if nothing reads, it remains blocked until the process exits
		_, err := w.w.Write(text)
		written <- err
	}()
	select {
	case err := <-written:
		return err
	case <-w.stopped.Done():
	}
	timer := time.NewTimer(stdoutLinger)
	defer timer.Stop()
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
	case <-timer.C:
	}
	return fmt.Errorf("nothing reads the standard output: %w", context.Cause(w.stopped))
}
