package worker

import (
	"time"

	"github.com/ctworker/ctworker/internal/digest"
)

// digester makes the digests of the keep_alive events of a worker.
type digester struct {
	worker   *Worker
	interval time.Duration
	machine  digest.Machine

	at   time.Time // when the last digest was made
	done int64     // in the last digest
}

// next returns the digest at now. ended states that the worker runs no more tasks.
func (g *digester) next(ended bool, now time.Time) digest.Digest {
	w := g.worker
	c := w.stats.Counts()
	d := digest.Digest{
		Phase: digest.Running, Interval: g.interval.Seconds(),
		Slots: w.opts.Config.NumSimultaneousTasks, Running: w.run.Status().Running,
		Completed: c.Completed, Exception: c.Exception, TimedOut: c.TimedOut, Exited: c.Exited, Retried: c.Retried,
		P50: w.stats.LatencyQuantile(0.5).Seconds(), P99: w.stats.LatencyQuantile(0.99).Seconds(),
		TaskPeakMemory: c.PeakMemory, Version: w.opts.Version,
	}
	g.machine.Measure(&d)
	switch {
	case ended:
		d.Phase = digest.Ended
	case w.run.Phases().Fetch.Err() != nil:
		d.Phase = digest.Draining
	}
	if passed := now.Sub(g.at); passed > 0 {
		d.Rate = float64(d.Done()-g.done) / passed.Seconds()
	}
	g.at, g.done = now, d.Done()
	return d
}
