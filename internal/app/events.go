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
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/cloudqueue"
	"github.com/ctworker/ctworker/internal/progress"
	"github.com/ctworker/ctworker/pipeline"
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
// ends after a signal, or when no event has arrived for opts.Idle, and returns the exit code. It
// returns ExitStrict if it ends because of opts.Idle although events remain in the queue.
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
	tail := eventTail{tool: t, queue: events, lines: lines, idle: opts.Idle, counts: map[string]int64{}}
	stopProgress := func() {}
	if opts.Output != "-" || !t.display.terminal { // on a terminal, progress would mix with the events
		stopProgress = progress.StartLines(t.log, progressInterval, func() progress.Status {
			return progress.Status{Done: tail.written(), Moves: "events"}
		}).Stop
	}
	rest, err := tail.run(source)
	stopProgress()
	t.print("%d events written and deleted from the queue %s%s\n", tail.total, events.Name(), perType(tail.counts))
	t.printRest(rest)
	switch {
	case err != nil:
		return t.fail(err)
	case rest != nil && t.ctx.Err() == nil:
		return ExitStrict
	}
	return ExitOK
}

// An eventTail reads an event queue, with one cloudqueue.Tail after another.
type eventTail struct {
	tool  *Tool
	queue cloudqueue.Queue
	lines cloudqueue.LineWriter
	idle  time.Duration

	mu      sync.Mutex
	current *cloudqueue.Tail // mu guards it, for written
	// counts and total are the numbers of events that the tails before current have written.
	counts map[string]int64
	total  int64
}

// maxFruitless is the number of tails without an event after which the queue is left, although
// events remain in it.
const maxFruitless = 3

// run reads events until a signal arrives, or until no event has arrived for the idle time. If events
// are then waiting in the queue, only the server was slow, and run reads on. It returns the state of
// the queue if events remain, or nil.
func (t *eventTail) run(source pipeline.Source) (rest *cloudqueue.Status, err error) {
	for fruitless := 0; ; {
		tail := cloudqueue.StartTail(t.tool.ctx, source, t.lines, t.idle, t.tool.log)
		t.set(tail)
		err := tail.Wait()
		added := t.add(tail)
		rest := t.tool.rest(t.queue)
		switch {
		case added > 0:
			fruitless = 0
		default:
			fruitless++
		}
		if err != nil || rest == nil || rest.Visible == 0 || t.tool.ctx.Err() != nil || fruitless == maxFruitless {
			return rest, err
		}
		t.tool.log.Info().Int64("waiting", rest.Visible).Msg("no event arrived within --idle-timeout, but the queue still contains events; reading on")
		if source, err = t.queue.OpenReader(t.tool.ctx, t.tool.log); err != nil {
			return rest, err
		}
	}
}

func (t *eventTail) set(tail *cloudqueue.Tail) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = tail
}

// add adds the events of a tail that has ended. It returns their number.
func (t *eventTail) add(tail *cloudqueue.Tail) (added int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts, added := tail.Counts()
	for name, n := range counts {
		t.counts[name] += n
	}
	t.total += added
	t.current = nil
	return added
}

// written returns the number of events that have been written.
func (t *eventTail) written() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	total := t.total
	if t.current != nil {
		_, n := t.current.Counts()
		total += n
	}
	return total
}

// restTime is the time limit for asking how many messages remain.
const restTime = 5 * time.Second

// rest returns the state of the queue if messages remain in it. It returns nil if none remain, or if
// the provider does not report their number.
func (t *Tool) rest(events cloudqueue.Queue) *cloudqueue.Status {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), restTime)
	defer cancel()
	s, err := events.Status(ctx)
	if err != nil || s.CountsUnavailable || s.Visible+s.InFlight+s.Delayed == 0 {
		return nil
	}
	return &s
}

// printRest prints how many messages remain in the queue, if any.
func (t *Tool) printRest(s *cloudqueue.Status) {
	if s == nil {
		return
	}
	t.print("about %d messages remain in the queue (%d waiting, %d in flight, %d delayed); run the command again to read them\n", s.Visible+s.InFlight+s.Delayed, s.Visible, s.InFlight, s.Delayed)
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
