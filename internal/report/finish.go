package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctworker/ctworker/internal/units"
)

const (
	// maxBuckets is the maximum number of buckets on the time axis.
	maxBuckets   = 240
	shownHosts   = 100
	shownNotices = 50
)

// Report returns the report. The Builder must not be used after that.
func (b *Builder) Report() *Report {
	b.workers.finish()
	r := &Report{
		Duration: b.seconds.distribution(), Memory: b.memory.distribution(), CPU: b.cpu.distribution(),
		Slowest: b.slowest.all, Largest: b.largest.all, Problems: b.problems, logs: b.opts.Logs,
	}
	r.Failures, r.OtherFailures = b.groups.failures()
	last := len(b.attempts)
	for last > 0 && b.attempts[last-1] == 0 {
		last--
	}
	r.Attempts = b.attempts[:last]
	b.setSummary(&r.Summary)
	rows := b.lanes.rows(b.workers)
	for _, row := range rows {
		b.series.coarsenTo(row.series.level)
	}
	r.Time = b.timeSeries()
	r.timeline = b.timeline(rows, r.Time.segments)
	b.addHosts(r)
	r.Notes = b.notes()
	return r
}

func (b *Builder) setSummary(s *Summary) {
	n := b.use.n
	finals := n[completed] + b.use.failed()
	// Each rerun with a result replaces one final event, normally that of a failure.
	s.Tasks = max(finals-b.rerunFinals, min(finals, 1))
	s.Failed = max(b.use.failed()-b.rerunFinals, 0)
	s.Completed = s.Tasks - s.Failed
	s.Attempts, s.AttemptsBy = b.use.attempts(), outcomesOf(n)
	s.Rerun, s.RetryDenied = b.rerunFinals, b.retryDenied
	later := int64(0)
	for _, n := range b.attempts[1:] {
		later += n
	}
	s.Unfinished = max(n[retried]-later, 0)
	s.WithoutEvent = max(b.finalAttempts-b.firstRunEvents, 0)
	s.Hosts, s.Workers = int64(len(b.workers.hosts)), int64(len(b.workers.all))
	s.FatalExceptions, s.OtherExceptions = b.fatal, b.nonFatal
	s.SpotTerminations = int64(len(b.workers.notices)) + b.workers.noNotices
	s.BusySeconds = seconds(b.use.totalBusy())
	var active spans
	active.maxPause = 0
	for _, h := range b.workers.hosts {
		s.MachineSeconds += seconds(h.spans.total())
		for _, p := range h.spans.all {
			active.add(p.from, p.to)
		}
	}
	for _, w := range b.workers.all {
		s.CapacitySeconds += seconds(w.capacity())
	}
	s.Slots = b.peakSlots()
	s.ActiveSeconds = seconds(active.total())
	from, to := active.bounds()
	s.Start, s.End = timeOf(from), timeOf(to)
	s.CPUSeconds = b.cpu.sum
	if b.cpuOf > 0 {
		s.CPUShare = b.cpu.sum / b.cpuOf
	}
	if s.ActiveSeconds > 0 {
		s.TasksPerSecond = float64(s.Tasks) / s.ActiveSeconds
	}
}

// peakSlots returns the maximum number of slots of the workers that were active at the same time.
func (b *Builder) peakSlots() int64 {
	type change struct{ time, slots int64 }
	var changes []change
	for _, w := range b.workers.all {
		for _, p := range w.spans.all {
			n := int64(len(w.lastEnd))
			changes = append(changes, change{p.from, n}, change{p.to, -n})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(b.slots, a.slots)) })
	now, peak := int64(0), int64(0)
	for _, c := range changes {
		now += c.slots
		peak = max(peak, now)
	}
	return peak
}

func (b *Builder) timeSeries() TimeSeries {
	var t TimeSeries
	b.series.fit(maxBuckets)
	available := newSeries(maxCells)
	available.level = b.series.level
	for _, w := range b.workers.all {
		for _, p := range w.spans.all {
			available.addBusy(p.from, p.to, int64(len(w.lastEnd)))
		}
	}
	// Workers without a running task do not extend the segments, so available can need wider buckets.
	b.series.coarsenTo(available.level)
	t.segments = b.series.fit(maxBuckets)
	t.width, available.max = b.series.width(), maxCells*2
	t.BucketSeconds = seconds(t.width)
	available.coarsenTo(b.series.level)
	for _, g := range t.segments {
		slots := available.bins(g.from, g.to)
		for i, bin := range b.series.bins(g.from, g.to) {
			t.Buckets = append(t.Buckets, Bucket{
				Start: time.UnixMicro((g.from + int64(i)) * t.width).UTC(), Outcomes: outcomesOf(bin.n),
				BusySlots: float64(bin.busy) / float64(t.width), Slots: float64(max(slots[i].busy, bin.busy)) / float64(t.width),
			})
		}
	}
	return t
}

func (b *Builder) timeline(rows []row, segments []segment) timeline {
	t := timeline{exact: !b.lanes.tooMany && b.lanes.slotShift == 0 && b.lanes.workerShift == 0}
	perHost := map[int]int{}
	for _, r := range rows {
		perHost[r.key.host]++
	}
	index := map[rowKey]int{}
	for _, r := range rows {
		r.series.coarsenTo(b.series.level)
		to := timelineRow{label: b.rowLabel(r), slots: r.slots}
		if b.lanes.workerShift == 0 {
			to.host = b.workers.hosts[r.key.host].name
		}
		if !t.exact {
			for _, g := range segments {
				to.bins = append(to.bins, r.series.bins(g.from, g.to))
			}
		}
		t.combined = max(t.combined, r.slots)
		index[r.key] = len(t.rows)
		t.rows = append(t.rows, to)
	}
	if t.exact {
		tracks := b.workers.tracks()
		slices.SortFunc(b.lanes.exact, compareAttempts)
		for _, a := range b.lanes.exact {
			i := index[rowKey{b.workers.all[a.worker].host, tracks[a.worker], a.slot}]
			t.rows[i].attempts = append(t.rows[i].attempts, a)
		}
	}
	return t
}

func (b *Builder) rowLabel(r row) string {
	if shift := b.lanes.workerShift; shift > 0 {
		first := r.key.host << shift
		return fmt.Sprintf("workers %d–%d", first+1, min(first+1<<shift, len(b.workers.all)))
	}
	first := r.key.slot << b.lanes.slotShift
	if r.slots > 1 {
		return fmt.Sprintf("slots %d–%d", first, first+1<<b.lanes.slotShift-1)
	}
	return "slot " + strconv.Itoa(int(first))
}

// addHosts adds the hosts, the termination notices and the costs.
func (b *Builder) addHosts(r *Report) {
	capacity := make([]int64, len(b.workers.hosts))
	slots := make([]int64, len(b.workers.hosts))
	for _, w := range b.workers.all {
		capacity[w.host] += w.capacity()
		slots[w.host] = max(slots[w.host], int64(len(w.lastEnd)))
	}
	lost := b.addNotices(r, capacity)
	order := make([]int, len(b.workers.hosts))
	cost := &Cost{PricePerHour: b.opts.Price}
	for i, h := range b.workers.hosts {
		order[i] = i
		price := b.opts.Price * seconds(h.spans.total()) / 3600
		cost.add(price, h.use, capacity[i], min(lost[i], capacity[i]-h.use.totalBusy()))
	}
	if b.opts.Price > 0 && cost.Total > 0 {
		if r.Summary.Completed > 0 {
			cost.PerCompleted = cost.Total / float64(r.Summary.Completed)
		}
		r.Cost = cost
	}
	slices.SortStableFunc(order, func(x, y int) int {
		return cmp.Compare(b.workers.hosts[y].use.attempts(), b.workers.hosts[x].use.attempts())
	})
	for n, i := range order {
		if n == shownHosts {
			r.OtherHosts = int64(len(order) - n)
			break
		}
		h := b.workers.hosts[i]
		from, to := h.spans.bounds()
		r.Hosts = append(r.Hosts, Host{
			Name: h.name, Workers: int64(h.workers), Slots: slots[i], Attempts: h.use.attempts(), Failed: h.use.failed(), Retried: h.use.n[retried],
			MachineSeconds: seconds(h.spans.total()), BusySeconds: seconds(h.use.totalBusy()), CapacitySeconds: seconds(capacity[i]),
			Start: timeOf(from), End: timeOf(to), Terminated: len(h.notices) > 0,
		})
	}
}

// addNotices adds the termination notices. It returns the lost slot time of each host.
func (b *Builder) addNotices(r *Report, capacity []int64) []int64 {
	lost := make([]int64, len(b.workers.hosts))
	counted := map[int]bool{} // a machine can get several notices
	for i := range b.workers.notices {
		n := &b.workers.notices[i]
		on := b.workers.hosts[n.host]
		notice := Notice{
			Time: timeOf(n.time), Host: on.name, Kind: n.kind, Action: n.action, Deadline: timeOf(n.deadline), FinishedAfter: n.finishedAfter,
		}
		if !counted[n.worker] {
			counted[n.worker] = n.worker != unknown && (n.kind == "" || n.kind == "termination")
			cut, time := b.workers.lost(n)
			time = min(time, max(capacity[n.host]-on.use.totalBusy(), 0))
			lost[n.host] += time
			notice.SlotsCut, notice.LostSeconds = int64(cut), seconds(time)
			if c := capacity[n.host]; c > 0 {
				notice.LostCost = b.opts.Price * seconds(on.spans.total()) / 3600 * float64(time) / float64(c)
			}
		}
		if len(r.Spot) < shownNotices {
			r.Spot = append(r.Spot, notice)
		}
	}
	return lost
}

// add adds a host to the costs. Its price is divided in proportion to the slot time.
func (c *Cost) add(price float64, u use, capacity, lost int64) {
	c.Total += price
	if capacity <= 0 {
		c.Idle += price
		return
	}
	share := func(micros int64) float64 { return price * float64(micros) / float64(capacity) }
	c.Useful += share(u.busy[completed])
	c.Failed += share(u.busy[exception] + u.busy[timedOut] + u.busy[exited])
	c.Retried += share(u.busy[retried])
	c.Interrupted += share(lost)
	c.Idle += share(max(capacity-u.totalBusy()-lost, 0))
}

// notes returns what the reader must know about this log.
func (b *Builder) notes() []string {
	var notes []string
	add := func(n int64, format string, args ...any) {
		if n > 0 {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	w := b.workers
	add(b.noTime, "%s without a valid timestamp: counted, but not shown over time.", units.Count(b.noTime, "event"))
	add(b.noElapsed, "%s without elapsed_time: counted with a run time of zero, and not part of the histogram.", units.Count(b.noElapsed, "event"))
	add(w.guessed, "%s without slot: the report assigns these attempts to as few slots as possible, so the number of slots and the idle time are estimates.", units.Count(w.guessed, "event"))
	add(w.clockJumps, "%s more than 10 minutes older than an earlier event of the same worker: the clock of a machine went back, or the events arrived out of order. Times and idle time can be wrong.", units.Count(w.clockJumps, "event"))
	pauses := int64(0)
	for _, of := range w.all {
		pauses += int64(max(len(of.spans.all)-1, 0))
	}
	add(pauses, "%s of a worker of more than 24 hours (of one hour, if the events have no run_id) without any event: counted as if the machine was off.", units.Count(pauses, "pause"))
	add(b.rerunFinals, "%s replaced an earlier one (field rerun). The slot time of the earlier attempt still counts as failed.", units.Count(b.rerunFinals, "final event"))
	if len(w.hosts) >= maxHosts || len(w.all) >= maxWorkers {
		notes = append(notes, fmt.Sprintf("More than %d hosts or %d workers: the others are combined, and their idle time is an estimate.", maxHosts, maxWorkers))
	}
	if w.slots >= maxTrackedSlots {
		notes = append(notes, fmt.Sprintf("More than %d slots: the idle time leaves out further slots.", maxTrackedSlots))
	}
	add(w.noNotices, "%d more termination notices are counted, but not evaluated.", w.noNotices)
	add(b.groups.removed, "%s with rare messages belong to no group, so the numbers of groups can be too low.", strings.Replace(units.Count(b.groups.removed, "attempt"), "attempt", "failed attempt", 1))
	return notes
}
