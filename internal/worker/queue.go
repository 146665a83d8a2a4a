package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctworker/ctworker/internal/cloudqueue"
	"github.com/ctworker/ctworker/internal/joblog"
	"github.com/ctworker/ctworker/internal/startup"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/eventlog"
)

// queues holds the worker's connections to the queues of a provider.
type queues struct {
	provider cloudqueue.Provider
	events   pipeline.Sink // the event queue, or nil
	// malformed counts the malformed messages that were reported.
	malformed atomic.Int64
}

// fromQueue reports whether tasks come from a queue.
func (w *Worker) fromQueue() bool {
	return w.opts.Config.TaskPath() == "" && w.opts.InputFile == "" && w.opts.Source == nil && w.opts.OpenSource == nil && (w.opts.ForkServer == nil || w.opts.ForkServer.Hello.Source == nil)
}

// connectProvider connects to the provider of the queues, if the worker uses any.
func (w *Worker) connectProvider() error {
	cfg := w.opts.Config
	if !w.fromQueue() && !cfg.EventLogToQueue {
		return nil
	}
	provider, err := cloudqueue.Open(cfg, w.opts.Log.With().Str("component", "queue").Logger())
	if err != nil {
		return &ConfigError{err}
	}
	w.queues.provider = provider
	if !w.fromQueue() {
		return nil
	}
	if err := provider.ValidateLease(cfg.MaxRuntime+cfg.KillDelay, cfg.Lease); err != nil {
		return &ConfigError{err}
	}
	return nil
}

// openQueue opens the task queue. It does not receive messages yet, because malformed messages are
// reported to the sink, which is opened later.
func (w *Worker) openQueue(ctx context.Context) error {
	log := w.opts.Log
	source, err := w.queues.provider.OpenSource(ctx, cloudqueue.SourceOptions{
		OnMalformed: w.reportMalformed, Log: log.With().Str("component", "source").Logger(),
	})
	if err != nil {
		return err
	}
	w.source = source
	w.onClose(func() error { // no effect if the run has closed the source
		ctx, cancel := w.closing()
		defer cancel()
		return source.Close(ctx)
	})
	return nil
}

// maxHold returns the maximum time for which the lease of a task is extended. It includes the time
// in which the task waits, runs, is terminated and is reported, and a margin.
func (w *Worker) maxHold() time.Duration {
	cfg := w.opts.Config
	const margin = 10 * time.Minute
	return cfg.MaxRuntime + cfg.KillDelay + cfg.ShutdownGracePeriod + margin
}

func (w *Worker) reportMalformed(ctx context.Context, body string, reason error) error {
	w.opts.Log.Warn().Err(reason).Int("bytes", len(body)).Msg("malformed message in the task queue; reporting it in a non_fatal_exception event")
	err := w.sink.Write(ctx, []pipeline.Event{pipeline.NewMalformedEvent(body, reason, w.hostname, time.Now())})
	if err == nil {
		w.queues.malformed.Add(1)
	}
	return err
}

// checkAppend returns an error if a file is not empty and does not start as the files of its kind do. It
// prevents that a run appends to a file of another kind because of a wrong name.
func (w *Worker) checkAppend(ctx context.Context, flag, path, start, kind string) error {
	begins, err := startup.Open(ctx, func() (string, error) { return startOf(path, len(start)), nil }, func(string) {}, flag+": reading "+path)
	if err == nil && !strings.HasPrefix(start, begins) {
		err = &ConfigError{fmt.Errorf("%s %s: the file exists and is not %s, so nothing is appended to it; use another file", flag, path, kind)}
	}
	return err
}

// startOf returns at most the first n bytes of a regular file, or "" if it cannot be read.
func startOf(path string, n int) string {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, n)
	n, _ = io.ReadFull(f, b) // an error leaves what was read
	return string(b[:n])
}

// openSinks opens the event log, the event queue, the sinks of the program, and the job log.
func (w *Worker) openSinks(ctx context.Context) error {
	cfg := w.opts.Config
	var all []pipeline.Sink
	// The sinks that were opened are closed even if opening the next one fails.
	w.onClose(func() error { w.sink = pipeline.Tee(all...); return w.closeSink() })
	if cfg.EventLogToFile {
		w.opts.Log.Debug().Str("file", cfg.EventLogFile).Msg("opening the event log file")
		opts := eventlog.Options{Log: w.opts.Log}
		if !w.fromQueue() {
			opts.Recovery = "continue the run with --resume, or with --resume-from " + shellQuote(cfg.EventLogFile) + " if the new events go to another file"
		}
		if err := w.checkAppend(ctx, "--event-log-file", cfg.EventLogFile, "{", "an event log"); err != nil {
			return err
		}
		file, err := eventlog.Open(ctx, cfg.EventLogFile, opts)
		if err != nil {
			return err
		}
		all = append(all, file)
	}
	if cfg.EventLogToQueue {
		events, err := w.queues.provider.OpenSink(ctx)
		if err != nil {
			return err
		}
		w.queues.events = w.run.WatchSink(events)
		all = append(all, w.queues.events)
	}
	for _, open := range w.opts.OpenSinks {
		sink, err := open(ctx)
		if err != nil {
			return fmt.Errorf("open a sink of the program: %w", err)
		}
		all = append(all, sink)
	}
	if len(all) == 0 && !cfg.DiscardEvents {
		return &ConfigError{errors.New("the events of this run, which contain its results, would be written nowhere; use --event-log-to-file or --event-log-to-queue, or permit it with --discard-events")}
	}
	if cfg.JobLog != "" { // last, so that each line of the job log has an event
		if err := w.checkAppend(ctx, "--joblog", cfg.JobLog, joblog.Header, "a job log"); err != nil {
			return err
		}
		file, err := joblog.Open(ctx, cfg.JobLog, w.opts.Log)
		if err != nil {
			return err
		}
		all = append(all, file)
	}
	w.sink = pipeline.Tee(all...)
	return nil
}

// maxConcurrentEventWrites is the maximum number of concurrent writes to the event queue.
const maxConcurrentEventWrites = 32

// maxConcurrentWrites returns the maximum number of concurrent writes to the sinks.
func (w *Worker) maxConcurrentWrites() int {
	if w.queues.events == nil {
		return 1
	}
	return maxConcurrentEventWrites
}

// keepAlive starts sending keep_alive events, which a pool manager uses to count workers:
// one at the start, one per interval, and one at the end.
func (w *Worker) keepAlive() {
	every := w.opts.Config.KeepaliveInterval
	if w.queues.events == nil || every <= 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { w.guarded("keep_alive events", func() { w.sendKeepAlives(ctx, every) }) })
	w.onClose(func() error { cancel(); ended.Wait(); return nil })
}

func (w *Worker) sendKeepAlives(ctx context.Context, every time.Duration) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	digests := digester{worker: w, interval: every, at: time.Now()}
	send := func(ctx context.Context, ended bool) {
		id, zone := w.instance(ctx)
		now := time.Now()
		d := digests.next(ended, now)
		e := newKeepAliveEvent(id, zone, w.hostname, w.runID, &d, now)
		if err := w.queues.events.Write(ctx, []pipeline.Event{e}); err != nil && ctx.Err() == nil {
			w.opts.Log.Warn().Err(err).Msg("could not send keep_alive event")
		}
	}
	for {
		send(ctx, false)
		select {
		case <-ticks.C: // ticks during a slow send are dropped
		case <-ctx.Done():
			ctx, cancel := w.closing()
			defer cancel()
			send(ctx, true)
			return
		}
	}
}
