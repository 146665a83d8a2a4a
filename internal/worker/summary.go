package worker

import (
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/sinks/progress"
	"github.com/ctworker/ctworker/stages"
)

// A Summary is what a run came to.
type Summary struct {
	stages.Counts
	// Next is the --tasks-to-skip with which another run goes on with the first task
	// that has no event. Tasks finish in any order: Beyond is how many of those after it
	// have one, and would be run again.
	Next, Beyond int64
	// Rest says that there are, or may be, tasks that were to be run and have
	// not been started.
	Rest bool
	// Unsettled are the tasks whose results could not be written or settled before the end
	// of the shutdown, or whose settlement failed in it.
	Unsettled int64
	// LostInShutdown are those of LeaseLost whose leases ended after the run had been told
	// to end: results that were discarded, not tasks that others took over from a worker
	// that went on.
	LostInShutdown int64
	// LimitReached says that --max-num-tasks was reached.
	LimitReached bool
	Elapsed      time.Duration
	// Median and P99 are the times within which half of the tasks and 99 of 100 were done,
	// from being received to being told of.
	Median, P99 time.Duration
	// Own is what this process used itself.
	Own usage
	// EventFile is where the events are; "" if nowhere.
	EventFile string
	// Queue is the queue that the tasks came from, and EventQueue the one that has the
	// events; "" if there is none. What a run leaves in a queue, others do.
	Queue, EventQueue string
	// Stopped says that it was told to end before the queue was empty.
	Stopped bool
	// Malformed are the messages of the queue that were no tasks, and were told of.
	Malformed int64
}

func (w *Worker) summary(sourceEnded bool) Summary {
	s := Summary{
		Counts: w.tally.Counts(), Elapsed: time.Since(w.began), Own: ownUsage(),
		Median: w.tally.Latency(0.5), P99: w.tally.Latency(0.99), Unsettled: int64(w.run.Unsettled()),
	}
	if stopping := w.stopping.Load(); stopping != nil {
		s.LostInShutdown = s.LeaseLost - stopping.LeaseLost
		s.Unsettled += s.SettleFailed - stopping.SettleFailed
	}
	over := s.Told() + s.Interrupted + s.LeaseLost
	limit := limitOf(w.opts.Config)
	s.LimitReached = limit >= 0 && over >= limit
	prefix := w.tally.Prefix(w.skip())
	s.Next, s.Beyond = w.opts.Config.TasksToSkip+prefix, s.Told()-prefix
	if w.fromQueue() {
		s.Stopped = !s.LimitReached && !sourceEnded
		s.Queue, s.Malformed = w.queues.provider.Tasks().Name(), w.queues.malformed.Load()
	} else {
		s.Rest = !s.LimitReached && (!sourceEnded || w.run.Received() > over)
	}
	if w.queues.events != nil {
		s.EventQueue = w.queues.provider.Events().Name()
	}
	if w.opts.Config.EventLogToFile {
		s.EventFile = w.opts.Config.EventLogFile
	}
	return s
}

// CameToItsEnd says that every task there was has been run, or as many as were
// asked for; of a queue, that everything that was started was finished and settled, as
// what is left of it others run.
func (s Summary) CameToItsEnd() bool {
	return !s.Rest && s.Interrupted == 0 && s.Unsettled == 0 && s.LostInShutdown == 0
}

// rate is tasks a second.
func (s Summary) rate() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Told()) / s.Elapsed.Seconds()
}

// Log logs the summary as one line.
func (s Summary) Log(log zerolog.Logger) {
	e := log.Info().
		Int64("tasks", s.Told()).Int64("completed", s.Completed).Int64("exception", s.Exception).
		Int64("timed_out", s.TimedOut).Int64("exited", s.Exited).Int64("retry", s.Retry).
		Int64("interrupted", s.Interrupted).Int64("unsettled", s.Unsettled).
		Bool("came_to_its_end", s.CameToItsEnd() && !s.Stopped)
	if s.Queue != "" {
		e = e.Int64("lease_lost", s.LeaseLost).Int64("malformed", s.Malformed).Str("queue", s.Queue)
	} else {
		e = e.Int64("next_tasks_to_skip", s.Next).Int64("finished_beyond", s.Beyond)
	}
	e = e.Float64("elapsed_seconds", s.Elapsed.Seconds()).RawJSON("tasks_per_second", []byte(progress.Rate(s.rate())))
	if s.CPU > 0 { // of a process that runs many tasks it is not known
		e = e.Float64("cpu_seconds", s.CPU.Seconds()).Int64("peak_memory_bytes", s.PeakMemory)
	}
	if s.Told() > 0 {
		e = e.Float64("latency_p50_seconds", s.Median.Seconds()).Float64("latency_p99_seconds", s.P99.Seconds())
	}
	e = e.Float64("own_cpu_seconds", s.Own.cpu.Seconds()).Int64("own_peak_memory_bytes", s.Own.peak)
	if s.EventQueue != "" {
		e = e.Str("event_queue", s.EventQueue)
	}
	e.Str("events", s.EventFile).Msg("run ended")
}

// Print writes the summary for people.
func (s Summary) Print(w io.Writer) error {
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
		{"interrupted", s.Interrupted, "ended by the shutdown, without an event; run them again"},
		{"unsettled", s.Unsettled, "could not be reported or settled in time; they run again when their leases end"},
		{"lease lost", s.LeaseLost, "ended here, without an event, as others have them"},
		{"malformed", s.Malformed, "messages that are no tasks; non_fatal_exception events have them whole"},
	}
	if s.Queue != "" {
		rows[4].note = "ended by the shutdown, without an event; they are in the queue again"
	}
	text := fmt.Sprintf("%d tasks in %s, %s tasks/s", s.Told(), progress.Duration(s.Elapsed), progress.Rate(s.rate()))
	if s.CPU > 0 {
		text += fmt.Sprintf("; the tasks used %s of CPU and at most %s of memory each", progress.Duration(s.CPU), size(s.PeakMemory))
	}
	text += "\n"
	for _, r := range rows {
		if r.count == 0 && r.name != "completed" {
			continue
		}
		line := fmt.Sprintf("  %-11s %9d", r.name, r.count)
		if r.note != "" {
			line += "  (" + r.note + ")"
		}
		text += line + "\n"
	}
	switch {
	case s.Retry > 0 && s.Queue != "":
		text += fmt.Sprintf("  %d of them are in the queue again, to be retried\n", s.Retry)
	case s.Retry > 0:
		text += fmt.Sprintf("  %d of them would be worth a retry; from a task file nothing is queued again\n", s.Retry)
	}
	switch {
	case s.Rest && s.Beyond == 0 && s.Interrupted == 0:
		text += fmt.Sprintf("  the run ended before all tasks had been started; --tasks-to-skip %d goes on with the next one\n", s.Next)
	case s.Rest:
		text += fmt.Sprintf("  the run ended before all tasks had been started; --tasks-to-skip %d goes on with the first one that has no event\n", s.Next)
		if s.Beyond > 0 {
			text += fmt.Sprintf("  %d tasks after that one have an event already, and would be run again\n", s.Beyond)
		}
	}
	if told := s.Told(); told > 0 && s.Own.cpu > 0 {
		text += fmt.Sprintf("half of the tasks were done within %s of being received, 99 of 100 within %s; ctworker used %s of CPU, %s a task, and %s\n",
			short(s.Median), short(s.P99), short(s.Own.cpu), short(s.Own.cpu/time.Duration(told)), size(s.Own.peak))
	}
	if s.EventFile != "" {
		text += "events: " + s.EventFile + "\n"
	}
	if s.EventQueue != "" {
		text += "events: queue " + s.EventQueue + " (read them with: ctworker events)\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// short formats a time to three digits.
func short(d time.Duration) string {
	unit := time.Duration(1)
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit).String()
}

// size formats a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
	}
}
