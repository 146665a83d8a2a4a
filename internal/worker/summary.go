package worker

import (
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/units"
	"github.com/ctworker/ctworker/stages"
)

// Summary is the outcome of a run.
type Summary struct {
	stages.Counts
	// Earlier is the number of tasks that this run skipped because earlier runs have done them.
	// EarlierFailed is how many of these tasks did not complete.
	Earlier, EarlierFailed int64
	// ContinueWith is the command that continues an incomplete run. RerunWith is the command that
	// runs the failed tasks again. Each is "" if there is no such command.
	ContinueWith, RerunWith string
	// SameInput states that these commands read the tasks from standard input, which must provide the same
	// tasks again.
	SameInput bool
	// Incomplete reports whether there may be tasks that have not been started.
	Incomplete bool
	// WithRetries reports whether the run itself retried tasks (--retries).
	WithRetries bool
	// FailureLimit describes the limit that ended the run early because too many tasks failed. It is nil if
	// no limit was reached.
	FailureLimit error
	// FirstFailed are the first tasks that failed, at most 10. Failures are the most frequent ways in
	// which tasks failed, at most 5.
	FirstFailed []FailedTask
	Failures    []Failure
	// Unsettled is the number of tasks whose results were not written or settled before the end of
	// the shutdown, or whose settlement failed during the shutdown.
	Unsettled int64
	// LostInShutdown is the number of tasks in LeaseLost whose leases expired during the shutdown.
	// Their results were discarded.
	LostInShutdown int64
	// LimitReached reports whether the run ended because of --max-num-tasks.
	LimitReached bool
	Elapsed      time.Duration
	// Median and P99 are quantiles of the time from receiving a task to writing its event.
	Median, P99 time.Duration
	// Self is the resource usage of this process.
	Self usage
	// EventFile is the path of the event log; "" if there is none.
	EventFile string
	// OutputLog is the file that records the output of the tasks; "" if there is none.
	OutputLog string
	// Queue is the name of the task queue, and EventQueue that of the event queue; "" if
	// there is none.
	Queue, EventQueue string
	// Stopped reports whether the run ended before the queue was empty.
	Stopped bool
	// Malformed is the number of malformed messages that were reported.
	Malformed int64
}

func (w *Worker) summary(sourceEnded bool) Summary {
	s := Summary{
		Counts: w.stats.Counts(), Elapsed: time.Since(w.began), Self: selfUsage(),
		Median: w.stats.LatencyQuantile(0.5), P99: w.stats.LatencyQuantile(0.99), Unsettled: int64(w.run.Status().Unsettled),
	}
	if stopping := w.stopping.Load(); stopping != nil {
		s.LostInShutdown = s.LeaseLost - stopping.LeaseLost
		s.Unsettled += s.SettleFailed - stopping.SettleFailed
	}
	ended := s.Reported() + s.Interrupted + s.LeaseLost
	limit := limitOf(w.opts.Config)
	s.LimitReached = limit >= 0 && ended >= limit
	if w.retrying != nil {
		ended += s.Retried
		s.WithRetries = true
	}
	s.Earlier, s.EarlierFailed = w.earlier()
	if w.fromQueue() {
		s.Stopped = !s.LimitReached && !sourceEnded
		s.Queue, s.Malformed = w.queues.provider.Tasks().Name(), w.queues.malformed.Load()
	} else if isShared(w.source) {
		s.Stopped, s.Queue = !s.LimitReached && !sourceEnded, "source of the program"
	} else {
		// Stages of the program may settle tasks without running them.
		unended := len(w.opts.Stages) == 0 && w.run.Status().Received > ended
		s.Incomplete = !s.LimitReached && (!sourceEnded || unended) || s.Interrupted > 0 || s.Unsettled > 0
	}
	w.outcomes.describe(&s)
	w.advise(&s)
	if w.queues.events != nil {
		s.EventQueue = w.queues.provider.Events().Name()
	}
	if w.opts.Config.EventLogToFile {
		s.EventFile = w.opts.Config.EventLogFile
	}
	s.OutputLog = w.opts.Config.OutputLog
	return s
}

// Finished reports whether the run did all its work. For a task file, all tasks, or
// --max-num-tasks of them, have been executed and reported. For a queue, every task that
// was started was finished and settled; other workers execute the remaining tasks of the
// queue.
func (s Summary) Finished() bool {
	return !s.Incomplete && s.Interrupted == 0 && s.Unsettled == 0 && s.LostInShutdown == 0
}

// RetriesLeft reports whether tasks of a run without a queue requested a retry that the run did not
// execute. A run that continues from the event log executes them.
func (s Summary) RetriesLeft() bool { return s.Queue == "" && s.Retried > 0 && !s.WithRetries }

// rate returns the number of tasks per second.
func (s Summary) rate() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Reported()) / s.Elapsed.Seconds()
}

// Log logs the summary as one line.
func (s Summary) Log(log zerolog.Logger) {
	e := log.Info().
		Int64("task_count", s.Reported()).Int64("completed", s.Completed).Int64("exception", s.Exception).
		Int64("timed_out", s.TimedOut).Int64("exited", s.Exited).Int64("retry", s.Retried).
		Int64("interrupted", s.Interrupted).Int64("unsettled", s.Unsettled).
		Bool("finished", s.Finished() && !s.Stopped)
	if s.Queue != "" {
		e = e.Int64("lease_lost", s.LeaseLost).Int64("malformed", s.Malformed).Str("queue", s.Queue)
	} else {
		e = e.Int64("done_earlier", s.Earlier).Int64("failed_earlier", s.EarlierFailed)
		if s.ContinueWith != "" {
			e = e.Str("continue_with", s.ContinueWith)
		}
		if s.RerunWith != "" {
			e = e.Str("rerun_failed_with", s.RerunWith)
		}
	}
	e = s.logFailures(e)
	e = e.Float64("duration_seconds", s.Elapsed.Seconds()).RawJSON("tasks_per_second", []byte(units.Rate(s.rate())))
	if s.CPU > 0 { // unknown if a process runs several tasks
		e = e.Float64("cpu_seconds", s.CPU.Seconds()).Int64("peak_memory_bytes", s.PeakMemory)
	}
	if s.Reported() > 0 {
		e = e.Float64("latency_p50_seconds", s.Median.Round(time.Microsecond).Seconds()).
			Float64("latency_p99_seconds", s.P99.Round(time.Microsecond).Seconds())
	}
	e = e.Float64("engine_cpu_seconds", s.Self.cpu.Seconds()).Int64("engine_peak_memory_bytes", s.Self.peak)
	if s.EventQueue != "" {
		e = e.Str("event_queue", s.EventQueue)
	}
	if s.OutputLog != "" {
		e = e.Str("output_log_file", s.OutputLog)
	}
	e.Str("event_log_file", s.EventFile).Msg("run ended")
}

// Print writes the summary as text.
func (s Summary) Print(w io.Writer) error {
	text := fmt.Sprintf("%s in %s, %s tasks/s\n", units.Count(s.Reported(), "task"), units.Duration(s.Elapsed), units.Rate(s.rate()))
	text += s.countText() + s.usageText()
	if s.EventFile != "" {
		text += "events:   " + s.EventFile + "\n"
	}
	if s.EventQueue != "" {
		text += "events:   queue " + s.EventQueue + " (read them with: ctworker events)\n"
	}
	if s.OutputLog != "" {
		text += "output:   " + s.OutputLog + " (show it with: ctworker output --output-log " + shellQuote(s.OutputLog) + ")\n"
	}
	text += s.failureText()
	sameInput := ""
	if s.SameInput {
		sameInput = " this command and the same standard input"
	}
	if s.ContinueWith != "" {
		text += "continue with" + sameInput + ":\n  " + s.ContinueWith + "\n"
	}
	if s.RerunWith != "" {
		text += "run the failed tasks again with" + sameInput + ":\n  " + s.RerunWith + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// countText lists the numbers of tasks by their outcome.
func (s Summary) countText() (text string) {
	type row struct {
		name  string
		count int64
		note  string
	}
	rows := []row{
		{"completed", s.Completed, ""},
		{"exception", s.Exception, ""},
		{"timed out", s.TimedOut, ""},
		{"exited", s.Exited, ""},
		{"interrupted", s.Interrupted, "stopped by the shutdown, no event written; run them again"},
		{"unsettled", s.Unsettled, "events may be missing; run those tasks again"},
		{"lease lost", s.LeaseLost, "stopped or discarded, no event written; another worker may run them"},
		{"malformed", s.Malformed, "messages that are not tasks; see their non_fatal_exception events"},
	}
	if s.Queue != "" {
		rows[4].note = "stopped by the shutdown, no event written; released to the queue"
		rows[5].note = "not reported or settled in time; available again when their leases expire"
	}
	retry := row{"to retry", s.Retried, "run them with --resume; --retries N retries tasks in the same run"}
	switch {
	case s.Queue != "":
		retry.note = "released to the queue for a retry; also counted above"
	case s.WithRetries:
		retry.name, retry.note = "retries", "attempts that were followed by a retry"
	}
	earlier := row{"done before", s.Earlier, "by earlier runs"}
	if s.EarlierFailed > 0 {
		earlier.note += fmt.Sprintf("; %d of them failed", s.EarlierFailed)
	}
	for _, r := range append(rows, retry, earlier) {
		if r.count == 0 && r.name != "completed" {
			continue
		}
		line := fmt.Sprintf("  %-11s %9d", r.name, r.count)
		if r.note != "" {
			line += "  (" + r.note + ")"
		}
		text += line + "\n"
	}
	if s.FailureLimit != nil {
		text += "  ended early because of too many failures: " + s.FailureLimit.Error() + "\n"
	}
	if s.Incomplete {
		text += "  not all tasks have been run\n"
	}
	return text
}

// usageText describes the CPU time, memory and latency of the run.
func (s Summary) usageText() (text string) {
	if s.CPU > 0 {
		text = fmt.Sprintf("tasks:    %s of CPU in all, at most %s of memory each\n", units.Duration(s.CPU), units.Size(s.PeakMemory))
	}
	if reported := s.Reported(); reported > 0 && s.Self.cpu > 0 {
		text += fmt.Sprintf("latency:  p50 %s, p99 %s, from receiving a task to writing its event\n", units.Latency(s.Median), units.Latency(s.P99))
		text += fmt.Sprintf("ctworker: %s of CPU (%s per task), at most %s of memory\n",
			units.Latency(s.Self.cpu), units.Latency(s.Self.cpu/time.Duration(reported)), units.Size(s.Self.peak))
	}
	return text
}

// failureText lists the first failed tasks and the most frequent reasons.
func (s Summary) failureText() (text string) {
	if len(s.FirstFailed) == 0 {
		return text
	}
	text += "failed tasks:\n"
	for _, f := range s.FirstFailed {
		text += fmt.Sprintf("  %s: %s\n", units.ShortID(f.ID), units.OneLine(f.Message))
	}
	if more := s.NotCompleted() - int64(len(s.FirstFailed)); more > 0 {
		text += fmt.Sprintf("  and %d more; the most frequent reasons of all %d:\n", more, s.NotCompleted())
		for _, f := range s.Failures {
			text += fmt.Sprintf("  %9d  %s\n", f.Count, units.OneLine(f.Message))
		}
	}
	return text
}

// logFailures adds the fields about failed tasks.
func (s Summary) logFailures(e *zerolog.Event) *zerolog.Event {
	if s.FailureLimit != nil {
		e = e.Str("failure_limit", s.FailureLimit.Error())
	}
	if len(s.FirstFailed) == 0 {
		return e
	}
	ids := zerolog.Arr()
	for _, f := range s.FirstFailed {
		ids.Str(f.ID)
	}
	reasons := zerolog.Arr()
	for _, f := range s.Failures {
		reasons.Dict(zerolog.Dict().Stringer("outcome", f.Kind).Str("reason", f.Message).Int64("task_count", f.Count))
	}
	return e.Array("failed_tasks", ids).Array("failure_reasons", reasons)
}
