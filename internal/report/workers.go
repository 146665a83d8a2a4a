package report

import (
	"cmp"
	"slices"
	"time"
)

const (
	// maxHosts and maxWorkers limit the memory for hosts and workers. Further ones are combined.
	maxHosts, maxWorkers = 4096, 8192
	// maxSlots is the exclusive upper limit for the number of a slot.
	maxSlots = 1 << 20
	// maxTrackedSlots limits the memory for the last attempts of all slots.
	maxTrackedSlots = 1 << 17
	// maxGuessedSlots is the maximum number of slots of a worker whose events have no slot.
	maxGuessedSlots = 2048
	maxNotices      = 1000
	// clockTolerance is the difference, in microseconds, by which an event may be older than an earlier one
	// of the same worker. Events of an event queue can be out of order.
	clockTolerance = 10 * 60 * 1e6
)

// A span is a period in microseconds.
type span struct{ from, to int64 }

// spans are the periods in which a host or worker was active, in order. Longer pauses than maxPause separate
// them.
type spans struct {
	all      []span
	maxPause int64
}

const (
	// workerPause is the pause after which a worker counts as stopped, if it has shown no sign of life. Its
	// clock may have jumped.
	workerPause = 24 * int64(time.Hour/time.Microsecond)
	// unnamedPause is the same for events without run_id, because they may belong to different runs.
	unnamedPause = int64(time.Hour / time.Microsecond)
	// maxSpans is the maximum number of periods of a host or worker.
	maxSpans = 1000
)

func (s *spans) add(from, to int64) {
	if n := len(s.all); n > 0 && from >= s.all[n-1].from && from <= s.all[n-1].to+s.maxPause {
		s.all[n-1].to = max(s.all[n-1].to, to)
		return
	}
	i := 0 // the first span that ends late enough to be joined
	for i < len(s.all) && s.all[i].to+s.maxPause < from {
		i++
	}
	j := i // the first span that begins too late
	for j < len(s.all) && s.all[j].from <= to+s.maxPause {
		from, to = min(from, s.all[j].from), max(to, s.all[j].to)
		j++
	}
	if i == j && len(s.all) >= maxSpans {
		return // only an erratic clock needs so many
	}
	s.all = slices.Replace(s.all, i, j, span{from, to})
}

func (s *spans) total() (n int64) {
	for _, p := range s.all {
		n += p.to - p.from
	}
	return n
}

func (s *spans) bounds() (from, to int64) {
	if len(s.all) == 0 {
		return unknown, unknown
	}
	return s.all[0].from, s.all[len(s.all)-1].to
}

// use is the number and the slot time, in microseconds, of attempts.
type use struct {
	n    [classes]int64
	busy [classes]int64
}

func (u *use) add(c class, elapsed int64) {
	u.n[c]++
	u.busy[c] += max(elapsed, 0)
}

func (u *use) attempts() (n int64) {
	for _, v := range u.n {
		n += v
	}
	return n
}

func (u *use) totalBusy() (n int64) {
	for _, v := range u.busy {
		n += v
	}
	return n
}

func (u *use) failed() int64 { return u.n[exception] + u.n[timedOut] + u.n[exited] }

// A host is a machine, as named in the field hostname.
type host struct {
	name string
	// spans has the signs of life without a task, such as keep_alive events, until finish adds the spans of
	// the workers.
	spans   spans
	use     use
	workers int
	// last is the index of the worker that wrote the most recent task event; unknown if there is none.
	last int
	// notices has the indexes of the termination notices of the host.
	notices []int
}

// A worker is one run on one host.
type worker struct {
	host  int
	spans spans
	use   use
	// lastEnd has the end of the last attempt of each slot. It is nil for a worker that stands for several.
	lastEnd map[uint32]int64
	latest  int64 // the time of the latest event
}

// A notice is a termination notice.
type notice struct {
	host, worker   int
	time, deadline int64
	kind, action   string
	finishedAfter  int64
}

type workerKey struct {
	host  int
	runID string
}

type rawWorker struct{ host, runID string }

// workers records what the hosts and workers did.
type workers struct {
	hosts     []*host
	hostOf    map[string]int
	all       []*worker
	workerOf  map[workerKey]int
	slots     int // tracked slots of all workers
	notices   []notice
	noNotices int64 // notices that exceed maxNotices
	// clockJumps counts events that are much older than an earlier event of the worker.
	clockJumps int64
	guessed    int64 // attempts without slot
	// known caches the workers by the JSON texts in their events. It has at most maxWorkers entries.
	known map[rawWorker]int
}

func newWorkers() *workers {
	return &workers{hostOf: map[string]int{}, workerOf: map[workerKey]int{}, known: map[rawWorker]int{}}
}

// host returns the index of a host.
func (w *workers) host(name string) int {
	if i, ok := w.hostOf[name]; ok {
		return i
	}
	if len(w.hosts) >= maxHosts {
		name = "other hosts"
		if i, ok := w.hostOf[name]; ok {
			return i
		}
	}
	w.hosts = append(w.hosts, &host{name: name, spans: spans{maxPause: unnamedPause}, last: unknown})
	w.hostOf[name] = len(w.hosts) - 1
	return len(w.hosts) - 1
}

// worker returns the index of the worker that wrote an event.
func (w *workers) worker(e *event) int {
	if i, ok := w.known[rawWorker{string(e.host), string(e.runID)}]; ok {
		return i
	}
	key := workerKey{w.host(hostName(e)), textOf(e.runID)}
	if len(key.runID) > maxText {
		key.runID = key.runID[:maxText]
	}
	i, ok := w.workerOf[key]
	if !ok && len(w.all) >= maxWorkers {
		key.runID = "other"
		i, ok = w.workerOf[key]
		if !ok && len(w.all) >= maxWorkers+maxHosts {
			i, ok = len(w.all)-1, true
		}
	}
	if !ok {
		pause := workerPause
		if key.runID == "" {
			pause = unnamedPause
		}
		i = len(w.all)
		w.all = append(w.all, &worker{host: key.host, spans: spans{maxPause: pause}, lastEnd: map[uint32]int64{}})
		w.workerOf[key] = i
		w.hosts[key.host].workers++
	}
	if len(w.known) < maxWorkers && len(e.host)+len(e.runID) < 4*maxText {
		w.known[rawWorker{string(e.host), string(e.runID)}] = i
	}
	return i
}

// hostName returns the name of the host, cut off if it is long.
func hostName(e *event) string {
	name := textOf(e.host)
	if name == "" {
		return "(no hostname)"
	}
	return shortID(name)
}

// add adds an attempt with its start, and returns its worker and its slot.
func (w *workers) add(e *event, c class, start int64) (at int, slot uint32) {
	at = w.worker(e)
	to := w.all[at]
	on := w.hosts[to.host]
	on.last = at
	on.use.add(c, e.elapsed)
	to.use.add(c, e.elapsed)
	if e.time == unknown {
		return at, 0
	}
	to.spans.add(start, e.time)
	if e.time < to.latest-clockTolerance {
		w.clockJumps++
	}
	to.latest = max(to.latest, e.time)
	for _, i := range on.notices {
		if n := &w.notices[i]; n.worker == at && e.time >= n.time {
			n.finishedAfter++
		}
	}
	if e.slot != unknown {
		slot = uint32(e.slot)
	} else {
		w.guessed++
		slot = to.guessSlot(start)
	}
	if _, ok := to.lastEnd[slot]; !ok {
		if w.slots >= maxTrackedSlots {
			return at, slot
		}
		w.slots++
	}
	to.lastEnd[slot] = max(to.lastEnd[slot], e.time)
	return at, slot
}

// overlapTolerance is how much two attempts may overlap that ran in the same slot, in microseconds.
const overlapTolerance = 2000

// guessSlot returns the number of a slot that was free at start.
func (w *worker) guessSlot(start int64) uint32 {
	best, bestEnd := uint32(0), int64(-1)
	n := uint32(min(len(w.lastEnd), maxGuessedSlots))
	for i := range n {
		if end := w.lastEnd[i]; end <= start+overlapTolerance && end > bestEnd {
			best, bestEnd = i, end
		}
	}
	if bestEnd >= 0 {
		return best
	}
	return min(n, maxGuessedSlots-1)
}

// addNotice adds a termination notice.
func (w *workers) addNotice(e *event) {
	if len(w.notices) >= maxNotices {
		w.noNotices++
		return
	}
	i := w.host(hostName(e))
	on := w.hosts[i]
	on.spans.add(e.time, e.time)
	on.notices = append(on.notices, len(w.notices))
	w.notices = append(w.notices, notice{
		host: i, worker: on.last, time: e.time, deadline: e.deadline,
		kind: shortID(textOf(e.kind)), action: shortID(textOf(e.action)),
	})
}

// addSign adds a sign of life of a host, such as a keep_alive event.
func (w *workers) addSign(e *event) {
	on := w.hosts[w.host(hostName(e))]
	on.spans.add(e.time, e.time)
	if on.last == unknown {
		return
	}
	to := w.all[on.last]
	if _, end := to.spans.bounds(); e.time >= end && e.time-end < unnamedPause { // the worker waits for tasks
		to.spans.add(end, e.time)
	}
}

// maxWarning is the longest time between a termination notice and its deadline, in microseconds, that counts
// as the time of the machine.
const maxWarning = int64(time.Hour / time.Microsecond)

// terminates reports whether the worker ended because of the notice.
func (w *workers) terminates(n *notice) bool {
	if n.worker == unknown || n.kind != "" && n.kind != "termination" {
		return false
	}
	_, end := w.all[n.worker].spans.bounds()
	return end <= max(n.time, n.deadline)+clockTolerance
}

// finish extends the time of terminated machines and their workers to the deadlines of the notices, and
// computes the time of the machines.
func (w *workers) finish() {
	for i := range w.notices {
		if n := &w.notices[i]; w.terminates(n) {
			end := n.time
			if n.deadline > n.time && n.deadline-n.time <= maxWarning {
				end = n.deadline
			}
			w.all[n.worker].spans.add(n.time, end)
		}
	}
	for _, on := range w.hosts {
		on.spans.maxPause = 0
	}
	for _, from := range w.all {
		for _, p := range from.spans.all {
			w.hosts[from.host].spans.add(p.from, p.to)
		}
	}
}

// lost returns the slot time between the last event of each slot and the end of a worker that got a notice,
// and the number of slots without an event after the notice.
func (w *workers) lost(n *notice) (slots int, time int64) {
	if !w.terminates(n) {
		return 0, 0
	}
	from := w.all[n.worker]
	_, end := from.spans.bounds()
	for _, last := range from.lastEnd {
		time += max(end-last, 0)
		if last < n.time {
			slots++
		}
	}
	return slots, time
}

// capacity returns the slot time of a worker, in microseconds, whether used or not.
func (w *worker) capacity() int64 {
	return max(int64(len(w.lastEnd))*w.spans.total(), w.use.totalBusy())
}

// tracks assigns the workers of each host to tracks, such that the workers of a track did not run at the
// same time. It returns the track of each worker.
func (w *workers) tracks() []int {
	order := make([]int, len(w.all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		fromA, _ := w.all[a].spans.bounds()
		fromB, _ := w.all[b].spans.bounds()
		return cmp.Compare(fromA, fromB)
	})
	tracks := make([]int, len(w.all))
	ends := make([][]int64, len(w.hosts))
	for _, i := range order {
		from, to := w.all[i].spans.bounds()
		of := ends[w.all[i].host]
		at := slices.IndexFunc(of, func(end int64) bool { return end <= from })
		if at < 0 {
			at = len(of)
			of = append(of, 0)
		}
		of[at], tracks[i] = to, at
		ends[w.all[i].host] = of
	}
	return tracks
}
