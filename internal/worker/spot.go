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

// watchers are what there is to watch for.
func (w *Worker) watchers() (all []spotwatch.Watcher) {
	cfg := w.opts.Config
	simulated := cfg.SimulateSpotTerminationAfter
	if simulated != nil {
		all = append(all, spotwatch.Simulated{After: *simulated, Delay: cfg.SimulateSpotTerminationDelay})
	}
	if simulated != nil { // it stands for the real one
		return all
	}
	rebalance := cfg.OnRebalance == "drain"
	here := spotwatch.Detect(rebalance)
	switch {
	case cfg.IsSpot && cfg.Provider == config.AWS:
		all = append(all, spotwatch.AWS{Rebalance: rebalance})
	case cfg.IsSpot && cfg.Provider == config.GCP:
		all = append(all, spotwatch.GCP{})
	case cfg.IsSpot && here != nil:
		all = append(all, here)
	case here != nil && cfg.Origin("is-spot").Place == config.Default:
		all = append(all, ifSpot{here})
	}
	return all
}

// ifSpot watches where the machine's metadata says that it is one that may be taken away.
type ifSpot struct{ spotwatch.Watcher }

func (w ifSpot) Watch(ctx context.Context, report func(spotwatch.Notice), warn func(string)) {
	if spotwatch.IsSpot(ctx, w.Watcher) {
		w.Watcher.Watch(ctx, report, warn)
	}
}

// watchNotices watches for notices until the worker is closed.
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
				watcher.Watch(ctx, func(n spotwatch.Notice) { w.onNotice(ctx, &ended, n) }, func(text string) { log.Warn().Msg(text) })
			})
		})
	}
	w.onClose(func() error { cancel(); ended.Wait(); return nil })
}

// noticed handles a notice. For scheduled maintenance, which may be days or weeks ahead, it waits
// until a task that starts then could still be running at the deadline.
func (w *Worker) onNotice(ctx context.Context, ended *sync.WaitGroup, n spotwatch.Notice) {
	cfg := w.opts.Config
	begin := n.Deadline.Add(-cfg.MaxRuntime - cfg.KillDelay - cfg.TerminationMargin)
	if n.Kind != spotwatch.Maintenance || n.Deadline.IsZero() || !time.Now().Before(begin) {
		w.beginTermination(ctx, ended, n)
		return
	}
	w.opts.Log.Warn().Str("component", "spotwatch").Str("kind", string(n.Kind)).Str("action", n.Action).Str("source", n.Source).
		Time("deadline", n.Deadline).Time("until", begin).Msg("maintenance of this machine is scheduled: continuing for now")
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

// act stops fetching, notifies the running tasks, and starts endBefore, which kills and releases them
// shortly before the deadline.
func (w *Worker) beginTermination(ctx context.Context, ended *sync.WaitGroup, n spotwatch.Notice) {
	log := w.opts.Log.Warn().Str("component", "spotwatch").Str("kind", string(n.Kind)).Str("action", n.Action).Str("source", n.Source)
	if !n.Deadline.IsZero() {
		log = log.Time("deadline", n.Deadline)
	}
	if n.Kind == spotwatch.Rebalance && w.opts.Config.OnRebalance != "drain" {
		log.Msg("rebalance recommendation: continuing; use --on-rebalance drain to stop fetching")
		return
	}
	w.run.StopFetching(errNotice) // first: a task that ends upon the notification must not be replaced
	if err := w.termination.Raise(); err != nil {
		w.opts.Log.Warn().Err(err).Msg("could not notify the tasks of the termination notice")
	}
	if sig := w.opts.Config.SignalOnTermination; sig != 0 {
		w.launcher.Signal(sig)
		if w.opts.Host != nil {
			w.opts.Host.Signal(sig)
		}
	}
	if w.opts.OnTermination != nil {
		w.opts.OnTermination()
	}
	log.Msg("instance termination notice: stopped fetching, notified running tasks")
	ended.Go(func() { w.guarded("spot_termination event", func() { w.reportNotice(n) }) })
	if n.Kind != spotwatch.Rebalance && !n.Deadline.IsZero() && w.opts.Config.ReleaseAtDeadline {
		ended.Go(func() { w.guarded("termination deadline", func() { w.killBeforeDeadline(ctx, n) }) })
	}
}

const (
	// noticeTime is the time limit for writing the event of a notice.
	noticeTime = 20 * time.Second
	// instanceTime is the time limit for the instance's ID in that event.
	instanceTime = 2 * time.Second
)

func (w *Worker) reportNotice(n spotwatch.Notice) {
	// The context of the watchers would end too soon: an idle run ends at once after Drain.
	ctx, cancel := context.WithTimeout(w.run.Phases().Close, noticeTime)
	defer cancel()
	// A pool manager replaces the instance by its ID. Until the metadata service answers, only the
	// host name is known.
	asking, enough := context.WithTimeout(ctx, instanceTime)
	id, _ := w.instance(asking)
	enough()
	e := pipeline.NewSpotTerminationEvent(id, string(n.Kind), n.Action, n.Source, n.Deadline, w.hostname, time.Now())
	if err := w.sink.Write(ctx, []pipeline.Event{e}); err != nil {
		w.opts.Log.Warn().Err(err).Msg("could not write the spot_termination event")
	}
}

// endBefore kills the tasks that still run shortly before the deadline, so that other workers can run
// them at once. A simulated termination happens exactly at the deadline.
func (w *Worker) killBeforeDeadline(ctx context.Context, n spotwatch.Notice) {
	margin := w.opts.Config.TerminationMargin
	if w.opts.Config.SimulateSpotTerminationAfter != nil {
		margin = 0
	}
	timer := time.NewTimer(time.Until(n.Deadline.Add(-margin)))
	defer timer.Stop()
	select {
	case <-timer.C:
		w.opts.Log.Warn().Int64("running", w.run.Running()).Msg("termination deadline: killing and releasing running tasks")
		w.run.Kill(fmt.Errorf("%w, %s", errNotice, n.Action))
	case <-ctx.Done():
	}
}
