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

// errNotice is why a run ends whose machine will be taken away.
var errNotice = errors.New("the provider will take this machine away")

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
	here := spotwatch.Here(rebalance)
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
				watcher.Watch(ctx, func(n spotwatch.Notice) { w.noticed(ctx, &ended, n) }, func(text string) { log.Warn().Msg(text) })
			})
		})
	}
	w.onClose(func() error { cancel(); ended.Wait(); return nil })
}

// noticed does what a notice is worth. What is to be done to the machine in days or weeks,
// as it is to be maintained, is no reason to begin nothing any more: that is only what a
// task that begins now could run into.
func (w *Worker) noticed(ctx context.Context, ended *sync.WaitGroup, n spotwatch.Notice) {
	cfg := w.opts.Config
	begin := n.Deadline.Add(-cfg.MaxRuntime - cfg.KillDelay - cfg.TerminationMargin)
	if n.Kind != spotwatch.Maintenance || n.Deadline.IsZero() || !time.Now().Before(begin) {
		w.act(ctx, ended, n)
		return
	}
	w.opts.Log.Warn().Str("component", "spotwatch").Str("kind", string(n.Kind)).Str("action", n.Action).Str("source", n.Source).
		Time("deadline", n.Deadline).Time("until", begin).Msg("the provider will stop this machine; until then all goes on")
	ended.Go(func() {
		timer := time.NewTimer(time.Until(begin))
		defer timer.Stop()
		select {
		case <-timer.C:
			w.guarded("termination notices", func() { w.act(ctx, ended, n) })
		case <-ctx.Done():
		}
	})
}

// act tells the tasks, has no further one begin, and shortly before the machine is taken
// away what still runs given back.
func (w *Worker) act(ctx context.Context, ended *sync.WaitGroup, n spotwatch.Notice) {
	log := w.opts.Log.Warn().Str("component", "spotwatch").Str("kind", string(n.Kind)).Str("action", n.Action).Str("source", n.Source)
	if !n.Deadline.IsZero() {
		log = log.Time("deadline", n.Deadline)
	}
	if n.Kind == spotwatch.Rebalance && w.opts.Config.OnRebalance != "drain" {
		log.Msg("the provider says that it may take this machine away soon; --on-rebalance drain would begin no further task")
		return
	}
	w.run.Drain(errNotice) // before a task that ends at the notice makes room for another
	if err := w.termination.Raise(); err != nil {
		w.opts.Log.Warn().Err(err).Msg("could not tell the tasks of the termination notice")
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
	log.Msg("the provider will take this machine away: no further task begins, and those that run have been told")
	ended.Go(func() { w.guarded("spot_termination event", func() { w.tellNotice(n) }) })
	if n.Kind != spotwatch.Rebalance && !n.Deadline.IsZero() && w.opts.Config.ReleaseAtDeadline {
		ended.Go(func() { w.guarded("termination deadline", func() { w.endBefore(ctx, n) }) })
	}
}

const (
	// noticeTime bounds the writing of the event of a notice.
	noticeTime = 20 * time.Second
	// instanceTime bounds how long that event waits for the name of this machine.
	instanceTime = 2 * time.Second
)

func (w *Worker) tellNotice(n spotwatch.Notice) {
	// Not with the watching: a run that has nothing to do ends at once.
	ctx, cancel := context.WithTimeout(w.run.Phases().Close, noticeTime)
	defer cancel()
	// A manager starts a replacement by the instance's ID; the host name is all that is known
	// while the metadata service does not give one.
	asking, enough := context.WithTimeout(ctx, instanceTime)
	id, _ := w.instance(asking)
	enough()
	e := pipeline.NewSpotTerminationEvent(id, string(n.Kind), n.Action, n.Source, n.Deadline, w.hostname, time.Now())
	if err := w.sink.Write(ctx, []pipeline.Event{e}); err != nil {
		w.opts.Log.Warn().Err(err).Msg("could not write the spot_termination event")
	}
}

// endBefore kills what still runs before the deadline, so that others get it at once. A
// made-up machine is taken away to the second.
func (w *Worker) endBefore(ctx context.Context, n spotwatch.Notice) {
	margin := w.opts.Config.TerminationMargin
	if w.opts.Config.SimulateSpotTerminationAfter != nil {
		margin = 0
	}
	timer := time.NewTimer(time.Until(n.Deadline.Add(-margin)))
	defer timer.Stop()
	select {
	case <-timer.C:
		w.opts.Log.Warn().Int64("running", w.run.Out()).Msg("the machine is about to be taken away: what still runs is killed and given back")
		w.run.Kill(fmt.Errorf("%w, %s", errNotice, n.Action))
	case <-ctx.Done():
	}
}
