package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/spotwatch"
)

// errNotice is the cause of a run that ends because of a termination notice.
var errNotice = errors.New("the provider announced the termination of this machine")

// watchers returns the watchers for termination notices of this machine.
func (w *Worker) watchers() (all []spotwatch.Watcher) {
	cfg := w.opts.Config
	if after := cfg.SimulateSpotTerminationAfter; after != nil { // replaces the real watchers
		return []spotwatch.Watcher{spotwatch.Simulated{After: *after, Delay: cfg.SimulateSpotTerminationDelay}}
	}
	rebalance := cfg.OnRebalance == "drain"
	detected := spotwatch.Detect(rebalance)
	switch {
	case cfg.IsSpot && cfg.Provider == config.AWS:
		all = append(all, spotwatch.AWS{Rebalance: rebalance})
	case cfg.IsSpot && cfg.Provider == config.GCP:
		all = append(all, spotwatch.GCP{})
	case cfg.IsSpot && detected != nil:
		all = append(all, detected)
	case detected != nil && cfg.Origin("is-spot").Place == config.Default:
		all = append(all, ifSpot{detected})
	}
	return all
}

// ifSpot watches unless the metadata service reports that this machine is not a spot instance. It
// also watches if the metadata service does not respond, because the fault may be temporary, and
// the work of all running tasks would be lost if a notice was missed.
type ifSpot struct{ spotwatch.Watcher }

func (w ifSpot) Watch(ctx context.Context, report func(spotwatch.Notice), warn func(error)) {
	if spot, err := spotwatch.IsSpot(ctx, w.Watcher); spot || err != nil {
		w.Watcher.Watch(ctx, report, warn)
	}
}

// watchNotices watches for termination notices until the worker is closed.
func (w *Worker) watchNotices() {
	all := w.watchers()
	if len(all) == 0 {
		return
	}
	log := w.opts.Log.With().Str("component", "spotwatch").Logger()
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	for _, watcher := range all {
		ended.Go(func() {
			w.guarded("termination notices", func() {
				watcher.Watch(ctx, func(n spotwatch.Notice) { w.onNotice(ctx, &ended, n) }, func(err error) {
					log.Warn().Err(err).Msg("metadata service of this instance failed; termination notices can be missed")
				})
			})
		})
	}
	w.onClose(func() error { cancel(); ended.Wait(); return nil })
}

// onNotice handles a termination notice. Scheduled maintenance may be days or weeks ahead. In this
// case, onNotice waits until a newly started task could still be running at the deadline.
func (w *Worker) onNotice(ctx context.Context, ended *sync.WaitGroup, n spotwatch.Notice) {
	cfg := w.opts.Config
	begin := n.Deadline.Add(-cfg.MaxRuntime - cfg.KillDelay - cfg.TerminationMargin)
	if n.Kind != spotwatch.Maintenance || n.Deadline.IsZero() || !time.Now().Before(begin) {
		w.beginTermination(ctx, ended, n)
		return
	}
	w.opts.Log.Warn().Str("component", "spotwatch").Str("kind", string(n.Kind)).Str("action", n.Action).Str("source", n.Source).
		Time("deadline", n.Deadline).Time("drain_at", begin).Msg("maintenance of this machine is scheduled; no more tasks are fetched after drain_at, because they might not finish before the maintenance")
	ended.Go(func() {
		timer := time.NewTimer(time.Until(begin))
		defer timer.Stop()
		select {
		case <-timer.C:
			w.guarded("termination notices", func() { w.beginTermination(ctx, ended, n) })
		case <-ctx.Done():
		}
	})
}

// beginTermination stops fetching, notifies the running tasks, and starts
// killBeforeDeadline.
func (w *Worker) beginTermination(ctx context.Context, ended *sync.WaitGroup, n spotwatch.Notice) {
	log := w.opts.Log.Warn().Str("component", "spotwatch").Str("kind", string(n.Kind)).Str("action", n.Action).Str("source", n.Source)
	if !n.Deadline.IsZero() {
		log = log.Time("deadline", n.Deadline)
	}
	if n.Kind == spotwatch.Rebalance && w.opts.Config.OnRebalance != "drain" {
		log.Msg("received a rebalance recommendation; continuing (--on-rebalance drain would stop fetching tasks)")
		return
	}
	w.run.StopFetching(errNotice) // before the notification, so that no new task starts when a task ends because of the notification
	if err := w.termination.Raise(); err != nil {
		w.opts.Log.Warn().Err(err).Msg("could not notify running tasks of the instance termination")
	}
	if sig := w.opts.Config.SignalOnTermination; sig != 0 {
		w.launcher.Signal(sig)
		if w.opts.ForkServer != nil {
			w.opts.ForkServer.Signal(sig)
		}
	}
	if w.opts.OnTermination != nil {
		w.opts.OnTermination()
	}
	log.Msg("received an instance termination notice; stopped fetching tasks and notified running tasks")
	ended.Go(func() { w.guarded("spot_termination event", func() { w.reportNotice(n) }) })
	if n.Kind != spotwatch.Rebalance && !n.Deadline.IsZero() && w.opts.Config.ReleaseAtDeadline {
		ended.Go(func() { w.guarded("termination deadline", func() { w.killBeforeDeadline(ctx, n) }) })
	}
}

const (
	// noticeTimeout is the time limit for writing the spot_termination event.
	noticeTimeout = 20 * time.Second
	// instanceTimeout is the time limit for querying the ID of the instance for that event.
	instanceTimeout = 2 * time.Second
)

func (w *Worker) reportNotice(n spotwatch.Notice) {
	// The context of the watchers cannot be used, because an idle run ends immediately after
	// StopFetching, and the end of the run cancels that context.
	ctx, cancel := context.WithTimeout(w.run.Phases().Close, noticeTimeout)
	defer cancel()
	// A pool manager identifies the instance to replace by its ID. Until the metadata service
	// responds, only the host name is known.
	queryCtx, cancelQuery := context.WithTimeout(ctx, instanceTimeout)
	id, _ := w.instance(queryCtx)
	cancelQuery()
	e := newSpotTerminationEvent(id, string(n.Kind), n.Action, n.Source, n.Deadline, w.hostname, time.Now())
	e.RunID = w.runID
	if err := w.sink.Write(ctx, []pipeline.Event{e}); err != nil {
		w.opts.Log.Warn().Err(err).Msg("could not write spot_termination event")
	}
}

// killBeforeDeadline kills and releases the running tasks shortly before the deadline, so that
// other workers can run them immediately. If the termination is simulated, it does so exactly at
// the deadline.
func (w *Worker) killBeforeDeadline(ctx context.Context, n spotwatch.Notice) {
	margin := w.opts.Config.TerminationMargin
	if w.opts.Config.SimulateSpotTerminationAfter != nil {
		margin = 0
	}
	timer := time.NewTimer(time.Until(n.Deadline.Add(-margin)))
	defer timer.Stop()
	select {
	case <-timer.C:
		w.opts.Log.Warn().Int64("running", w.run.Status().Running).Msg("the instance is about to be terminated; killing running tasks and releasing them to other workers")
		w.run.Kill(fmt.Errorf("%w (action %q)", errNotice, n.Action))
	case <-ctx.Done():
	}
}
