package fleet

import (
	"slices"
	"time"

	"github.com/ctworker/ctworker/internal/journal"
)

// Snapshot is a State at one time. The caller may change it.
type Snapshot struct {
	At time.Time
	// Total is the number of tasks of the job; negative if it is unknown.
	Total int64
	// Completed, Exception, TimedOut and Exited are numbers of tasks with a final event, by outcome.
	// Retrying is the number of tasks whose last event requests a retry.
	Completed, Exception, TimedOut, Exited, Retrying int64
	// Retries is the number of attempts that requested a retry.
	Retries int64
	// Rate is the number of tasks that end per second.
	Rate float64
	// TimeLeft is negative if it is unknown.
	TimeLeft time.Duration
	// Events is the number of events. Repeated is the number of those that were delivered again, or that
	// are older than an event of the same task. Malformed is the number of messages that are not events.
	Events, Repeated, Malformed int64
	// Failures are the reasons of failures, the most frequent first. FailedTasks are some failed tasks.
	Failures    []Failure
	FailedTasks []FailedTask
	// Fatal and NonFatal are numbers of fatal_exception and non_fatal_exception events. LastFatal is the
	// last fatal_exception event.
	Fatal, NonFatal int64
	LastFatal       Fatal
	// Workers are the known workers: first those that need attention, then by name.
	Workers []Worker
	// WorkerCount is the number of workers that have sent a keep_alive event.
	WorkerCount int64
	// Notices are the last termination notices, oldest first. NoticeCount is the number of all notices.
	Notices     []Notice
	NoticeCount int64
	// LastChange is when the last event about a task or a load arrived; zero if none has arrived.
	LastChange time.Time
}

// Snapshot returns the state at now.
func (s *State) Snapshot(now time.Time) Snapshot {
	now = now.UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	v := Snapshot{
		At: now, Total: s.totalTasks(),
		Completed: s.latest.Count(journal.Completed), Exception: s.latest.Count(journal.Exception),
		TimedOut: s.latest.Count(journal.TimedOut), Exited: s.latest.Count(journal.Exited),
		Retrying: s.latest.Count(journal.None), Retries: s.retries,
		Rate: s.ended.perSecond(now), Events: s.events, Repeated: s.repeated, Malformed: s.malformed,
		Failures: s.failures.list(), FailedTasks: slices.Clone(s.failures.first),
		Fatal: s.fatal, NonFatal: s.nonFatal, LastFatal: s.lastFatal,
		Workers: s.workersAt(now), WorkerCount: s.workerCount,
		NoticeCount: s.noticeCount, LastChange: s.lastChange,
	}
	for _, n := range s.notices {
		v.Notices = append(v.Notices, *n)
	}
	v.TimeLeft = v.timeLeft()
	return v
}

// totalTasks returns the number of tasks; -1 if it is unknown.
func (s *State) totalTasks() int64 {
	switch {
	case s.total >= 0:
		return s.total
	case len(s.loads) > 0:
		return s.loaded
	}
	return -1
}

// Progress returns the number of tasks with a final event and the number of all tasks, which is negative if
// it is unknown. It returns also when the last event about a task or a load arrived.
func (s *State) Progress() (done, total int64, lastChange time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest.Done(), s.totalTasks(), s.lastChange
}

// Done returns the number of tasks with a final event.
func (v *Snapshot) Done() int64 { return v.Completed + v.Failed() }

// Failed returns the number of tasks whose final event reports a failure.
func (v *Snapshot) Failed() int64 { return v.Exception + v.TimedOut + v.Exited }

// Complete reports whether every task has a final event.
func (v *Snapshot) Complete() bool { return v.Total >= 0 && v.Done() >= v.Total }

// Count returns the number of workers in a condition.
func (v *Snapshot) Count(c Condition) (n int) {
	for i := range v.Workers {
		if v.Workers[i].Condition == c {
			n++
		}
	}
	return n
}

// In returns the workers in a condition.
func (v *Snapshot) In(c Condition) (all []Worker) {
	for _, w := range v.Workers {
		if w.Condition == c {
			all = append(all, w)
		}
	}
	return all
}

// Slots returns the number of slots and of running tasks of the workers that are alive.
func (v *Snapshot) Slots() (slots int, running int64) {
	for _, w := range v.Workers {
		if d := w.Digest; d != nil && (w.Condition == Running || w.Condition == Draining) {
			slots += d.Slots
			running += d.Running
		}
	}
	return slots, running
}

// maxTimeLeft is the longest remaining time that is known.
const maxTimeLeft = 10 * 365 * 24 * time.Hour

func (v *Snapshot) timeLeft() time.Duration {
	noWorker := v.WorkerCount > 0 && v.Count(Running)+v.Count(Draining) == 0
	if v.Total < 0 || v.Rate <= 0 || noWorker {
		return -1
	}
	seconds := float64(max(v.Total-v.Done(), 0)) / v.Rate
	if seconds > maxTimeLeft.Seconds() {
		return -1
	}
	return time.Duration(seconds * float64(time.Second))
}
