package fleet

import (
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/pipeline"
)

// State is the state of a job according to its events. It is safe for concurrent use.
//
// A State needs about 16 to 22 bytes per task, and less than 1 KiB per worker.
type State struct {
	mu         sync.Mutex
	latest     *journal.Latest
	total      int64 // the number of tasks if the caller knows it, otherwise -1
	loads      map[string]int64
	loaded     int64
	events     int64
	malformed  int64
	repeated   int64
	retries    int64
	ended      rate
	failures   failures
	fatal      int64
	lastFatal  Fatal
	nonFatal   int64
	lastChange time.Time // when the last event about a task or a load arrived

	workers     map[workerKey]*workerState
	workerCount int64
	maxWorkers  int
	notices     []*Notice
	noticeCount int64
}

// Fatal is a fatal_exception event.
type Fatal struct {
	At           time.Time
	Host, Reason string
}

// maxLoads limits the number of loads that are kept.
const maxLoads = 100_000

// New returns the State of a job without events. total is the number of tasks of the job. If total is
// negative, the number is the sum of the numbers in tasks_loaded events.
func New(total int64) *State {
	return &State{
		latest: journal.NewLatest(), total: total, loads: map[string]int64{}, failures: failures{counts: map[Failure]int64{}},
		workers: map[workerKey]*workerState{}, maxWorkers: maxWorkers,
	}
}

// Replay applies a line of the event log. It returns an error if the line is not an event.
func (s *State) Replay(line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apply(line, time.Time{})
}

// Apply applies a line that arrived at now. A line that is not an event is counted as malformed.
func (s *State) Apply(line []byte, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.apply(line, now.UTC()); err != nil {
		s.malformed++
	}
}

// apply applies a line. arrived is zero for a replayed line.
func (s *State) apply(line []byte, arrived time.Time) error {
	e, isTask, err := journal.Parse(line)
	if err != nil {
		return err
	}
	s.events++
	if isTask {
		s.task(e, line, arrived)
		return nil
	}
	f := parseFields(line)
	at := parseTime(string(f.Timestamp))
	switch pipeline.EventType(f.Type) {
	case pipeline.KeepAlive:
		s.keepAlive(&f, at, arrived)
	case pipeline.SpotTermination:
		s.spotTermination(&f, at)
	case TasksLoaded:
		s.tasksLoaded(&f, arrived)
	case pipeline.FatalException:
		s.fatal++
		s.lastFatal = Fatal{At: at, Host: clip(f.Hostname, maxName), Reason: clip(f.Exception, maxReason)}
	case pipeline.NonFatalException:
		s.nonFatal++
	}
	return nil
}

// task applies the event of a task.
func (s *State) task(e journal.Event, line []byte, arrived time.Time) {
	before, after, changed := s.latest.Add(e)
	if !changed {
		s.repeated++
		return
	}
	at := timeOf(line)
	if !arrived.IsZero() {
		s.lastChange = arrived
	}
	if e.Retry {
		s.retries++
		return
	}
	if before == journal.None {
		s.ended.add(at, arrived)
	}
	switch {
	case isFailure(after):
		f := parseFields(line)
		if isFailure(before) {
			s.failures.recovered(string(e.TaskID))
		}
		s.failures.add(string(e.TaskID), after, &f)
	case isFailure(before):
		s.failures.recovered(string(e.TaskID))
	}
}

// tasksLoaded applies the event of a load.
func (s *State) tasksLoaded(f *fields, arrived time.Time) {
	id, n := clip(f.LoadID, maxName), int64(f.TaskCount)
	if d := int64(f.Distinct); d > 0 && d < n { // a task ID counts once
		n = d
	}
	if _, known := s.loads[id]; known || len(s.loads) >= maxLoads || n <= 0 || n > maxTasksPerLoad {
		s.repeated++
		return
	}
	s.loads[id] = n
	s.loaded += n
	if !arrived.IsZero() {
		s.lastChange = arrived
	}
}

// maxTasksPerLoad prevents an overflow.
const maxTasksPerLoad = 1 << 40
