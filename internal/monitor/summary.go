package monitor

import (
	"fmt"
	"strings"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/fleet"
	"github.com/ctworker/ctworker/internal/units"
)

// Summary is the result of monitoring a job.
type Summary struct {
	fleet.Snapshot
	// Queue is the name of the event queue, and File the event log.
	Queue, File string
	// ContinueWith is the command that continues the monitoring. FailedWith are the commands that list
	// the failed tasks and run them again.
	ContinueWith string
	FailedWith   []string
}

// maxShownReasons is the number of reasons in the summary.
const maxShownReasons = 5

// Print returns the summary as text. Texts from events are not escaped.
func (s *Summary) Print() string {
	var b strings.Builder
	pf := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format, args...) }
	switch {
	case s.Total < 0:
		pf("%s with a final event; the number of all tasks is unknown\n", units.Count(s.Done(), "task"))
	case s.Complete():
		pf("complete: all %s have a final event\n", units.Count(s.Total, "task"))
	default:
		pf("%d of %s have a final event\n", s.Done(), units.Count(s.Total, "task"))
	}
	if extra := s.Done() - s.Total; s.Total >= 0 && extra > 0 {
		pf("%s more than were loaded: another program has loaded tasks, or has received the event of a load\n", units.Count(extra, "task"))
	}
	row := func(name string, n int64, note string) {
		if n == 0 && name != "completed" {
			return
		}
		if note != "" {
			note = "  (" + note + ")"
		}
		pf("  %-11s %9d%s\n", name, n, note)
	}
	row("completed", s.Completed, "")
	row("exception", s.Exception, "")
	row("timed out", s.TimedOut, "")
	row("exited", s.Exited, "")
	row("to retry", s.Retrying, "their last event requests a retry")
	row("malformed", s.Malformed, "messages in the event queue that are not events; they are in the event log as texts")
	s.printWorkers(pf)
	pf("events:   %d in %s", s.Events, s.File)
	if s.Repeated > 0 {
		pf(", of which %d were delivered again or are out of date", s.Repeated)
	}
	pf("\n")
	s.printFailed(pf)
	if s.ContinueWith != "" && !s.Complete() {
		pf("continue with:\n  %s\n", s.ContinueWith)
	}
	return b.String()
}

// printWorkers prints the numbers of workers, and names those that need attention.
func (s *Summary) printWorkers(pf func(string, ...any)) {
	if s.WorkerCount == 0 {
		return
	}
	var parts []string
	for _, c := range []fleet.Condition{fleet.Running, fleet.Draining, fleet.Ended, fleet.Silent, fleet.Terminated} {
		if n := s.Count(c); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %v", n, c))
		}
	}
	pf("workers:  %d (%s)\n", s.WorkerCount, strings.Join(parts, ", "))
	silent := s.In(fleet.Silent)
	for _, w := range silent[:min(len(silent), maxNamed)] {
		pf("  silent: %s, last seen %s\n", units.OneLine(w.Name()), w.LastSeen.Format("2006-01-02 15:04:05 UTC"))
	}
	if n := len(silent) - maxNamed; n > 0 {
		pf("  silent: %d more\n", n)
	}
	if s.NoticeCount > 0 {
		pf("termination notices: %d\n", s.NoticeCount)
	}
	if s.Fatal > 0 {
		pf("workers that ended with an error: %d, the last one on %s: %s\n", s.Fatal, units.OneLine(s.LastFatal.Host), units.OneLine(s.LastFatal.Reason))
	}
}

// printFailed prints failed tasks, the reasons, and what to do.
func (s *Summary) printFailed(pf func(string, ...any)) {
	if s.Failed() == 0 {
		return
	}
	pf("failed tasks:\n")
	for _, t := range s.FailedTasks {
		pf("  %s: %s\n", units.ShortID(t.ID), units.OneLine(t.Reason))
	}
	if more := s.Failed() - int64(len(s.FailedTasks)); more > 0 {
		pf("  and %d more; the most frequent reasons of all:\n", more)
		for _, f := range s.Failures[:min(len(s.Failures), maxShownReasons)] {
			pf("  %9d  %s\n", f.Count, units.OneLine(f.Reason))
		}
	}
	if len(s.FailedWith) > 0 {
		pf("list the failed tasks, and load them again:\n  %s\nmonitor the tasks that are loaded again with another --event-log-file\n", strings.Join(s.FailedWith, "\n  "))
	}
}

// Log logs the summary as one line.
func (s *Summary) Log(log zerolog.Logger) {
	e := Fields(log.Info(), &s.Snapshot).
		Int64("completed", s.Completed).Int64("exception", s.Exception).Int64("timed_out", s.TimedOut).Int64("exited", s.Exited).
		Int64("retry", s.Retrying).Int64("repeated_events", s.Repeated).Int64("malformed", s.Malformed).Bool("complete", s.Complete())
	if len(s.FailedTasks) > 0 {
		ids, reasons := zerolog.Arr(), zerolog.Arr()
		for _, t := range s.FailedTasks {
			ids.Str(t.ID)
		}
		for _, f := range s.Failures[:min(len(s.Failures), maxShownReasons)] {
			reasons.Dict(zerolog.Dict().Stringer("outcome", f.Kind).Str("reason", f.Reason).Int64("task_count", f.Count))
		}
		e = e.Array("failed_tasks", ids).Array("failure_reasons", reasons)
	}
	if !s.Complete() {
		e = e.Str("continue_with", s.ContinueWith)
	}
	e.Str("event_queue", s.Queue).Str("event_log_file", s.File).Msg("monitor ended")
}

// Fields adds the progress of a job to a log line.
func Fields(e *zerolog.Event, v *fleet.Snapshot) *zerolog.Event {
	e = e.Int64("done", v.Done()).Int64("failed", v.Failed())
	if v.Total >= 0 {
		e = e.Int64("total", v.Total)
	}
	slots, running := v.Slots()
	e = e.RawJSON("tasks_per_second", []byte(units.Rate(v.Rate))).
		Int("workers", v.Count(fleet.Running)+v.Count(fleet.Draining)).Int64("running", running).Int("slots", slots)
	if n := v.Count(fleet.Silent); n > 0 {
		e = e.Int("silent", n)
	}
	if v.NoticeCount > 0 {
		e = e.Int64("termination_notices", v.NoticeCount)
	}
	if v.TimeLeft >= 0 && !v.Complete() {
		e = e.Float64("eta_seconds", float64(int64(v.TimeLeft.Seconds())))
	}
	return e.Int64("events", v.Events)
}
