package report

import (
	"cmp"
	"maps"
	"slices"
)

const (
	// maxLanes is the maximum number of lanes in memory. maxRows is the maximum number of rows of the slot
	// timeline in a report.
	maxLanes, maxRows = 512, 128
	maxLaneCells      = 256
	// maxExact is the maximum number of attempts that the slot timeline shows individually.
	maxExact = 3000
)

// laneKey identifies a group of slots.
type laneKey struct{ worker, slot uint32 }

// An exactAttempt is an attempt in the slot timeline.
type exactAttempt struct {
	worker     int
	slot       uint32
	start, end int64
	class      class
	id         string
}

// lanes records when slots were busy. If there are too many slots, it combines neighbors.
type lanes struct {
	all map[laneKey]*series
	// A lane has the slots of which the number, shifted to the right by slotShift, is the same. workerShift
	// does the same for the workers, after all slots of each worker are in one lane.
	slotShift, workerShift uint8
	exact                  []exactAttempt // nil if there were more than maxExact
	tooMany                bool
}

func newLanes() *lanes { return &lanes{all: map[laneKey]*series{}} }

func (l *lanes) add(e *event, worker int, slot uint32, start int64, c class) {
	key := laneKey{uint32(worker) >> l.workerShift, slot >> l.slotShift}
	s := l.all[key]
	if s == nil {
		s = newSeries(maxLaneCells)
		l.all[key] = s
	}
	s.add(start, e.time, c)
	if len(l.all) > maxLanes {
		l.reduce(maxLanes)
	}
	switch {
	case l.tooMany:
	case len(l.exact) == maxExact:
		l.exact, l.tooMany = nil, true
	default:
		l.exact = append(l.exact, exactAttempt{worker, slot, start, e.time, c, shortID(e.TaskID)})
	}
}

// reduce combines lanes until there are at most limit.
func (l *lanes) reduce(limit int) {
	for len(l.all) > limit {
		var mask laneKey
		for k := range l.all {
			mask.slot |= k.slot
			mask.worker |= k.worker
		}
		switch {
		case mask.slot > 0:
			l.slotShift++
			l.merge(func(k laneKey) laneKey { return laneKey{k.worker, k.slot >> 1} })
		case mask.worker > 0:
			l.workerShift++
			l.merge(func(k laneKey) laneKey { return laneKey{k.worker >> 1, 0} })
		default:
			return
		}
	}
}

// merge replaces the keys of the lanes, and merges lanes with the same new key.
func (l *lanes) merge(newKey func(laneKey) laneKey) {
	old := l.all
	l.all = make(map[laneKey]*series, len(old))
	for k, s := range old {
		k = newKey(k)
		if to := l.all[k]; to != nil {
			to.merge(s)
		} else {
			l.all[k] = s
		}
	}
}

// rowKey identifies a row of the slot timeline. If workerShift is not 0, host is the number of a group of
// workers, and track is 0.
type rowKey struct {
	host, track int
	slot        uint32
}

// A row is a row of the slot timeline.
type row struct {
	key    rowKey
	series *series
	slots  int64 // the number of slots in the row
}

// rows returns the rows of the slot timeline, by host and slot.
func (l *lanes) rows(w *workers) []row {
	tracks := w.tracks()
	keyOf := func(worker, slot uint32) rowKey {
		if l.workerShift > 0 {
			return rowKey{host: int(worker)}
		}
		return rowKey{w.all[worker].host, tracks[worker], slot}
	}
	collect := func() map[rowKey]bool {
		set := map[rowKey]bool{}
		for k := range l.all {
			set[keyOf(k.worker, k.slot)] = true
		}
		return set
	}
	for limit := len(l.all); len(collect()) > maxRows && limit > 1; {
		limit = len(l.all) - 1
		l.reduce(limit)
	}
	rows := map[rowKey]*row{}
	for k, s := range l.all {
		key := keyOf(k.worker, k.slot)
		if r := rows[key]; r != nil {
			r.series.max = maxLaneCells
			r.series.merge(s)
		} else {
			rows[key] = &row{key: key, series: s}
		}
	}
	l.countSlots(w, rows, keyOf)
	sorted := make([]row, 0, len(rows))
	for _, r := range rows {
		sorted = append(sorted, *r)
	}
	slices.SortFunc(sorted, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.key.host, b.key.host), cmp.Compare(a.key.track, b.key.track), cmp.Compare(a.key.slot, b.key.slot))
	})
	return sorted
}

// countSlots sets the number of slots of each row. Workers that ran one after the other share slots.
func (l *lanes) countSlots(w *workers, rows map[rowKey]*row, keyOf func(worker, slot uint32) rowKey) {
	for i, from := range w.all {
		counts := map[rowKey]int64{}
		for slot := range maps.Keys(from.lastEnd) {
			counts[keyOf(uint32(i)>>l.workerShift, slot>>l.slotShift)]++
		}
		for key, n := range counts {
			switch r := rows[key]; {
			case r == nil: // the events of the slot have no time
			case l.workerShift > 0:
				r.slots += n
			default:
				r.slots = max(r.slots, n)
			}
		}
	}
	for _, r := range rows {
		r.slots = max(r.slots, 1)
	}
}
