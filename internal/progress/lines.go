package progress

import (
	"cmp"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/internal/units"
)

// Lines logs the progress of a run at regular intervals.
type Lines struct {
	once  sync.Once
	stop  chan struct{}
	ended chan struct{}
}

// StartLines logs a line with the message "progress" every interval, until Stop is called or
// status panics. status is called by one goroutine.
func StartLines(log zerolog.Logger, interval time.Duration, status func() Status) *Lines {
	l := &Lines{stop: make(chan struct{}), ended: make(chan struct{})}
	m := NewMeter(time.Now)
	go func() {
		defer close(l.ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-ticker.C:
			}
			// A panic here must not end the run.
			if p := panics.Try(func() { logStatus(log, m, status()) }); p != nil {
				log.Error().Err(p.AsError()).Msg("progress reporting failed; no further progress is logged")
				return
			}
		}
	}()
	return l
}

func logStatus(log zerolog.Logger, m *Meter, s Status) {
	rate, remaining := m.Add(s)
	e := log.Info().Int64("done", s.Done)
	if s.Moves == "" {
		e = e.Int64("failed", s.Failed).Int64("running", s.Running)
	}
	if s.Memory > 0 {
		e = e.Int64("task_memory_bytes", s.Memory)
	}
	e = e.RawJSON(cmp.Or(s.Moves, "tasks")+"_per_second", []byte(units.Rate(rate)))
	if s.Waiting > 0 {
		e = e.Int64("waiting_for_retry", s.Waiting)
	}
	if s.Unreported > 0 {
		e = e.Int64("events_pending", s.Unreported)
	}
	if s.Total > 0 {
		e = e.Int64("total", s.Total).Bool("total_is_estimate", s.Estimated)
	}
	if remaining >= 0 {
		e = e.Float64("eta_seconds", remaining.Round(time.Second).Seconds())
	}
	e.Msg("progress")
}

// Stop stops the logging. No line is logged after Stop has returned. A second Stop does nothing.
func (l *Lines) Stop() {
	l.once.Do(func() { close(l.stop) })
	<-l.ended
}
