package fleet

import (
	"cmp"
	"slices"
	"time"

	"github.com/ctworker/ctworker/internal/digest"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// Condition is the condition of a worker, derived from its keep_alive events.
type Condition int

// The conditions, in the order in which a list shows them: first those that need attention.
const (
	// Silent: no keep_alive event for SilentIntervals intervals.
	Silent Condition = iota
	Draining
	Running
	// Terminated: silent after a termination notice of the cloud provider.
	Terminated
	Ended
)

// String returns the name of the condition.
func (c Condition) String() string {
	return [...]string{Silent: "silent", Draining: "draining", Running: "running", Terminated: "terminated", Ended: "ended"}[c]
}

// SilentIntervals is the number of intervals without a keep_alive event after which a worker is Silent.
const SilentIntervals = 3

const (
	// defaultInterval is the interval of a worker that does not report one: the default of
	// --keepalive-interval.
	defaultInterval          = 60 * time.Second
	minInterval, maxInterval = 100 * time.Millisecond, 24 * time.Hour
	// maxWorkers limits the number of workers that are kept. If there are more, those that were last seen
	// a long time ago are removed.
	maxWorkers = 20_000
)

// Worker describes a worker at the time of a Snapshot.
type Worker struct {
	// Host, Instance and Zone name the machine. Zone may be "".
	Host, Instance, Zone string
	// RunID identifies the run of the worker. It is "" for a worker that does not send it. Tag is the start of
	// the run ID if several workers have the same names, otherwise "".
	RunID, Tag string
	// Digest is nil for a worker that does not send one.
	Digest    *digest.Digest
	Condition Condition
	// LastSeen is the time of the last event of the worker.
	LastSeen time.Time
	// Notice is the last termination notice for the machine, or nil.
	Notice *Notice
}

// Name returns the host name, and the name of the instance if it differs.
func (w *Worker) Name() string {
	if w.Instance == "" || w.Instance == w.Host {
		return w.tagged(w.Host)
	}
	return w.tagged(w.Instance + " (" + w.Host + ")")
}

// ShortName returns the name of the instance, or the host name if the instance has none.
func (w *Worker) ShortName() string { return w.tagged(cmp.Or(w.Instance, w.Host)) }

func (w *Worker) tagged(name string) string {
	if w.Tag == "" {
		return name
	}
	return name + " " + w.Tag
}

// Notice is a termination notice for the machine of a worker.
type Notice struct {
	At                  time.Time
	Host, Instance      string
	Kind, Action, RunID string
	Deadline            time.Time // zero if the provider gave none
}

// workerKey identifies a worker: by the run ID, or else by the machine.
type workerKey struct{ runID, instance, host string }

// workerState is the state of a worker in a State.
type workerState struct {
	Worker
	interval  time.Duration
	arrivedAt time.Time // when its last keep_alive event arrived; zero if it was replayed
	ended     bool
}

// keepAlive applies a keep_alive event. arrived is zero for a replayed event.
func (s *State) keepAlive(f *fields, at, arrived time.Time) {
	w := s.workerOf(f)
	w.Zone = clip(f.Zone, maxName)
	if w.Instance = clip(f.InstanceID, maxName); w.Instance == "" {
		w.Instance = w.Host
	}
	if d := f.Worker.Digest; d != nil && !at.Before(w.LastSeen) {
		d.Version = clip(text(d.Version), maxName)
		w.Digest = d
		seconds := min(max(d.Interval, minInterval.Seconds()), maxInterval.Seconds())
		w.interval = time.Duration(seconds * float64(time.Second))
		w.ended = d.Phase == digest.Ended
	}
	w.seen(at, arrived)
	if !arrived.IsZero() {
		w.arrivedAt = arrived
	}
}

// seen records that the worker was alive at a time.
func (w *workerState) seen(at, arrived time.Time) {
	if !arrived.IsZero() {
		if at.IsZero() || at.After(arrived) {
			at = arrived
		}
		// If two keep_alive events arrive at a distance, the worker is alive now, even if its clock is slow. The
		// events of a backlog arrive together.
		if !w.arrivedAt.IsZero() && arrived.Sub(w.arrivedAt) >= w.interval/2 {
			at = arrived
		}
	}
	if at.After(w.LastSeen) {
		w.LastSeen = at
	}
}

// workerOf returns the worker that sent a keep_alive event. It adds the worker if it is unknown.
func (s *State) workerOf(f *fields) *workerState {
	key := workerKey{runID: clip(f.RunID, maxName)}
	if key.runID == "" {
		key.instance, key.host = clip(f.InstanceID, maxName), clip(f.Hostname, maxName)
	}
	if w := s.workers[key]; w != nil {
		return w
	}
	if len(s.workers) >= s.maxWorkers {
		s.removeOldWorkers()
	}
	w := &workerState{Worker: Worker{Host: clip(f.Hostname, maxName), RunID: key.runID}, interval: defaultInterval}
	for _, n := range s.notices { // the notice may have arrived before the first keep_alive event
		if n.isFor(key.runID, clip(f.InstanceID, maxName), w.Host) {
			w.Notice = n
		}
	}
	s.workers[key] = w
	s.workerCount++
	return w
}

// removeOldWorkers removes a tenth of the workers: those that were last seen a long time ago.
func (s *State) removeOldWorkers() {
	keys := make([]workerKey, 0, len(s.workers))
	for k := range s.workers {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b workerKey) int { return s.workers[a].LastSeen.Compare(s.workers[b].LastSeen) })
	for _, k := range keys[:max(len(keys)/10, 1)] {
		delete(s.workers, k)
	}
}

// isFor reports whether a notice is for the machine of a worker.
func (n *Notice) isFor(runID, instance, host string) bool {
	if n.RunID != "" && runID != "" {
		return n.RunID == runID
	}
	return n.Host == host && (n.Instance == instance || n.Instance == host)
}

// maxNotices is the number of termination notices that are kept.
const maxNotices = 100

// spotTermination applies a spot_termination event.
func (s *State) spotTermination(f *fields, at time.Time) {
	n := &Notice{
		At: at, Host: clip(f.Hostname, maxName), Instance: clip(f.InstanceID, maxName), RunID: clip(f.RunID, maxName),
		Kind: clip(f.Kind, maxName), Action: clip(f.Action, maxName), Deadline: parseTime(string(f.Deadline)),
	}
	for _, known := range s.notices {
		if *known == *n { // delivered again
			s.repeated++
			return
		}
	}
	s.noticeCount++
	if s.notices = append(s.notices, n); len(s.notices) > maxNotices {
		s.notices = s.notices[1:]
	}
	for _, w := range s.workers {
		if n.isFor(w.RunID, w.Instance, w.Host) {
			w.Notice = n
		}
	}
}

// condition returns the condition of the worker at now.
func (w *workerState) condition(now time.Time) Condition {
	isSilent := now.Sub(w.LastSeen) >= SilentIntervals*w.interval
	switch {
	case w.ended:
		return Ended
	case isSilent && w.Notice != nil:
		return Terminated
	case isSilent:
		return Silent
	case w.Notice != nil || w.Digest != nil && w.Digest.Phase == digest.Draining:
		return Draining
	}
	return Running
}

// tagLength is the length of Worker.Tag, in bytes.
const tagLength = 6

// workersAt returns the workers at now: first those that need attention, then by name.
func (s *State) workersAt(now time.Time) []Worker {
	all := make([]Worker, 0, len(s.workers))
	same := make(map[[2]string]int, len(s.workers))
	for _, w := range s.workers {
		one := w.Worker
		one.Condition = w.condition(now)
		all = append(all, one)
		same[[2]string{w.Host, w.Instance}]++
	}
	for i := range all {
		if w := &all[i]; same[[2]string{w.Host, w.Instance}] > 1 {
			w.Tag = utf8cut.Start(w.RunID, tagLength)
		}
	}
	slices.SortFunc(all, func(a, b Worker) int {
		return cmp.Or(cmp.Compare(a.Condition, b.Condition), cmp.Compare(a.Host, b.Host), cmp.Compare(a.RunID, b.RunID))
	})
	return all
}
