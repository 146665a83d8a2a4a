package worker

import (
	"context"
	"runtime"
	"time"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/internal/status"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// maxRunning is the maximum number of running tasks in a Snapshot.
const maxRunning = 200

// record records an attempt that has ended.
func (w *Worker) record(d *pipeline.Decision) {
	kind := d.Outcome.Kind
	if kind == pipeline.Interrupted || kind == pipeline.LeaseLost {
		return
	}
	failed := kind != pipeline.Completed
	if !w.recorder.AddDuration(d.Outcome.Elapsed, failed) {
		return
	}
	reason := ""
	if failed {
		reason = outcome.Reason(kind, d.Outcome.Exception, d.Outcome.ExitCode, d.Outcome.StderrLine)
	}
	w.recorder.Add(status.Attempt{
		TaskID: d.Task.ID, Attempt: d.Attempt, Slot: d.Outcome.Slot, Outcome: kind.String(), Failed: failed,
		Retried: d.Verdict == pipeline.Retry, Elapsed: d.Outcome.Elapsed,
	}, reason)
}

// recordHistory starts a goroutine that divides the run into intervals.
func (w *Worker) recordHistory() {
	if w.recorder == nil {
		return
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case now := <-ticker.C:
				w.recorder.Tick(now)
			case <-stop:
				return
			}
		}
	}()
	w.onClose(func() error { close(stop); <-done; return nil })
}

// tracked returns a Runner that also records which tasks run, if the status is recorded.
func (w *Worker) tracked(runner stages.Runner) stages.Runner {
	if w.recorder == nil {
		return runner
	}
	t := &trackedRunner{Runner: runner}
	w.running = func(context.Context) ([]procexec.RunningTask, error) { return t.tracker.Running(), nil }
	return t
}

// trackedRunner is a Runner that records which tasks run.
type trackedRunner struct {
	stages.Runner
	tracker procexec.Tracker
}

// Run implements stages.Runner.
func (t *trackedRunner) Run(phases pipeline.Phases, slot int, d *pipeline.Delivery) (pipeline.Outcome, error) {
	t.tracker.Add(procexec.RunningTask{ID: d.Task.ID, Attempt: d.Attempt, Slot: slot, StartedAt: time.Now()})
	defer t.tracker.Remove(slot)
	return t.Runner.Run(phases, slot, d)
}

// Responsive implements status.Source.
func (w *Worker) Responsive(ctx context.Context) error {
	_, err := w.running(ctx)
	return err
}

// Histogram returns the durations of the attempts.
func (w *Worker) Histogram() status.Histogram { return w.recorder.Histogram() }

// Snapshot implements status.Source. It may be called until Wait returns, and after that.
func (w *Worker) Snapshot(ctx context.Context) status.Snapshot {
	now := time.Now()
	counts, run := w.stats.Counts(), w.run.Status()
	progress := w.Status()
	s := status.Snapshot{
		Version: w.opts.Version, Program: w.opts.Program, Hostname: w.hostname, RunID: w.runID,
		StartedAt: w.began, Now: now, Slots: w.opts.Config.NumSimultaneousTasks,
		Tasks: status.Tasks{
			Completed: counts.Completed, Exception: counts.Exception, TimedOut: counts.TimedOut, Exited: counts.Exited,
			Interrupted: counts.Interrupted, LeaseLost: counts.LeaseLost, Retries: counts.Retried,
			Done: progress.Done, Failed: progress.Failed, DoneEarlier: progress.Earlier, Running: progress.Running,
			WaitingForRetry: progress.Waiting, Unreported: progress.Unreported, Estimated: progress.Estimated,
		},
		Latency: status.Quantiles{
			P50: w.stats.LatencyQuantile(0.5).Seconds(), P90: w.stats.LatencyQuantile(0.9).Seconds(),
			P99: w.stats.LatencyQuantile(0.99).Seconds(), Max: w.stats.LatencyQuantile(1).Seconds(),
		},
	}
	if progress.Total > 0 {
		s.Tasks.Total = &progress.Total
	}
	s.Phase, s.StopReason = w.phase(run)
	w.recorder.Fill(&s)
	w.meterMu.Lock()
	rate, remaining := w.meter.Add(progress)
	w.meterMu.Unlock()
	s.Rate = rate
	if seconds := remaining.Seconds(); remaining >= 0 {
		s.RemainingSeconds = &seconds
	}
	w.fillRunning(ctx, &s)
	self := selfUsage()
	s.Engine = status.Engine{CPUSeconds: self.cpu.Seconds(), PeakMemoryBytes: self.peak, Goroutines: runtime.NumGoroutine()}
	if reported := counts.Reported(); reported > 0 {
		s.Engine.CPUSecondsPerTask = self.cpu.Seconds() / float64(reported)
	}
	if w.fromQueue() {
		s.Queue = &status.Queue{
			Name: w.queues.provider.Tasks().Name(), InFlight: run.InFlight, Malformed: w.queues.malformed.Load(), SettleFailed: counts.SettleFailed,
			LeasesExtended: counts.Extended, ExtendFailed: counts.ExtendFailed,
		}
		if w.queues.events != nil {
			s.Queue.EventQueue = w.queues.provider.Events().Name()
		}
	}
	return s
}

// phase returns the phase of the run, and why the run stops.
func (w *Worker) phase(run pipeline.Status) (phase, reason string) {
	if cause := w.run.StopCause(); cause != nil {
		phase, reason = status.PhaseStopping, cause.Error()
	} else {
		phase = status.PhaseRunning
	}
	if run.InFlight == 0 && (phase == status.PhaseStopping || run.SourceExhausted) {
		phase = status.PhaseEnded
	}
	return phase, reason
}

// fillRunning sets the running tasks, and their memory.
func (w *Worker) fillRunning(ctx context.Context, s *status.Snapshot) {
	tasks, err := w.running(ctx)
	s.RunningKnown = err == nil
	s.Running = []status.RunningTask{}
	for _, t := range tasks[:min(len(tasks), maxRunning)] {
		r := status.RunningTask{Slot: t.Slot, TaskID: status.Cut(t.ID), Attempt: t.Attempt, AgeSeconds: s.Now.Sub(t.StartedAt).Seconds(), Pid: t.Pid}
		if t.Pid > 0 {
			if size, ok := procexec.ResidentMemory(t.Pid); ok {
				r.MemoryBytes = &size
			}
		}
		s.Running = append(s.Running, r)
	}
}
