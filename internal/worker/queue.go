package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctworker/ctworker/internal/cloudqueue"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/eventlog"
	"github.com/ctworker/ctworker/stages"
)

// queues are what a worker has of a provider's queues.
type queues struct {
	provider cloudqueue.Provider
	events   pipeline.Sink    // the queue of events; nil: none
	leases   *stages.Extender // of the queue of tasks; nil: they come from elsewhere
	// malformed counts the messages that were no tasks, and have been told of.
	malformed atomic.Int64
}

// fromQueue reports whether tasks come from a queue.
func (w *Worker) fromQueue() bool {
	return w.opts.Config.TaskFile == "" && w.opts.Source == nil && (w.opts.Host == nil || w.opts.Host.Hello.Source == nil)
}

// openProvider finds whose queues are meant, if any are.
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

// openQueue opens the queue of tasks. Nothing is received of it before there is
// somebody to tell of a message that is none.
func (w *Worker) openQueue(ctx context.Context) error {
	cfg, log := w.opts.Config, w.opts.Log
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
	w.queues.leases = stages.NewExtender(stages.ExtendOptions{
		LeaseDuration: cfg.Lease, MaxHold: w.longestHold(), MaxQueueTime: stages.MaxQueueTime, OnStall: w.run.ResetPrefetch, OnPermanentError: w.run.Fail,
		Log: log.With().Str("component", "extend").Logger(),
	})
	w.onClose(func() error { w.queues.leases.Close(); return nil })
	return nil
}

// longestHold is for how long a task can be held at most, unless something is stuck:
// it waits, runs, is ended, and told of once somebody can be.
func (w *Worker) longestHold() time.Duration {
	cfg := w.opts.Config
	const margin = 10 * time.Minute
	return cfg.MaxRuntime + cfg.KillDelay + cfg.ShutdownGracePeriod + margin
}

func (w *Worker) reportMalformed(ctx context.Context, body string, reason error) error {
	w.opts.Log.Warn().Err(reason).Int("bytes", len(body)).Msg("a message in the queue is no task; an event has it whole")
	err := w.sink.Write(ctx, []pipeline.Event{pipeline.NewMalformedEvent(body, reason, w.hostname, time.Now())})
	if err == nil {
		w.queues.malformed.Add(1)
	}
	return err
}

// openSinks opens what events are written to: the file first, then the queue.
func (w *Worker) openSinks(ctx context.Context) error {
	cfg := w.opts.Config
	var all sinks
	w.sink = &all
	w.onClose(w.closeSink)
	if cfg.EventLogToFile {
		w.opts.Log.Debug().Str("file", cfg.EventLogFile).Msg("opening event log")
		file, err := eventlog.Open(ctx, cfg.EventLogFile, eventlog.Options{Log: w.opts.Log})
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
	return nil
}

// sinks are several sinks as one; none is one that tells nobody.
type sinks []pipeline.Sink

// Write writes to one after the other: an event is in the file before others see it.
func (s *sinks) Write(ctx context.Context, events []pipeline.Event) error {
	for _, sink := range *s {
		if err := sink.Write(ctx, events); err != nil {
			return err
		}
	}
	return nil
}

// Close closes them all.
func (s *sinks) Close(ctx context.Context) error {
	var errs []error
	for _, sink := range *s {
		errs = append(errs, sink.Close(ctx))
	}
	return errors.Join(errs...)
}

// eventsAtOnce is how many batches of events may be on their way to a queue.
const eventsAtOnce = 32

// parallel is how many writes of events go on at once.
func (w *Worker) parallel() int {
	if w.queues.events == nil {
		return 1
	}
	return eventsAtOnce
}

// keepAlive starts sending keep_alive events, by which a pool manager counts the workers: one at the
// start, one per interval, and one at the end.
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
	send := func(ctx context.Context) {
		id, zone := w.instance(ctx)
		e := pipeline.NewKeepAliveEvent(id, zone, w.hostname, time.Now())
		if err := w.queues.events.Write(ctx, []pipeline.Event{e}); err != nil && ctx.Err() == nil {
			w.opts.Log.Warn().Err(err).Msg("could not send keep_alive event")
		}
	}
	for {
		send(ctx)
		select {
		case <-ticks.C: // ticks during a slow send are dropped
		case <-ctx.Done():
			ctx, cancel := w.closing()
			defer cancel()
			send(ctx)
			return
		}
	}
}
