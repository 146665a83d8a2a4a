package report

import (
	"maps"
	"slices"
)

// class is the way in which an attempt counts in a report.
type class uint8

// The classes. An attempt that requests a retry is retried, whatever its outcome was. The other classes are
// the outcomes of final events.
const (
	completed class = iota
	exception
	timedOut
	exited
	retried
	classes
)

// widths are the possible widths of buckets in microseconds. Each one is a multiple of the one before.
var widths = func() []int64 {
	const second, hour = 1_000_000, 3_600_000_000
	all := []int64{
		second / 100, second / 50, second / 10, second / 5, second, 2 * second, 10 * second, 20 * second, 60 * second, 120 * second,
		600 * second, 1200 * second, hour, 2 * hour, 6 * hour, 12 * hour, 24 * hour,
	}
	for len(all) < 48 {
		all = append(all, 2*all[len(all)-1])
	}
	return all
}()

// A cell is one bucket of time.
type cell struct {
	n [classes]uint32 // the attempts that ended in the bucket
	// busy is the slot time in the bucket, in microseconds, of attempts that run in only a part of it.
	busy int64
	// delta changes the number of attempts that run in this entire bucket and in the following ones.
	delta int32
}

// A series counts attempts over time. It only stores buckets in which something happens, at most max. If
// there are more, it doubles the width of the buckets, or multiplies it by up to five. A pause, or a clock
// that jumps, therefore does not make the other buckets wider.
type series struct {
	level int // index of widths
	max   int
	cells map[int64]*cell
	// recent is the cell at recentAt, which is often the next one, too; nil if there is none.
	recent   *cell
	recentAt int64
}

func newSeries(limit int) *series { return &series{max: limit, cells: map[int64]*cell{}} }

func (s *series) width() int64 { return widths[s.level] }

// add adds an attempt. Its start and end are in microseconds.
func (s *series) add(start, end int64, c class) {
	s.cell(floorDiv(end, s.width())).n[c]++
	s.addBusy(start, end, 1)
}

// addBusy adds the slot time of a number of slots.
func (s *series) addBusy(start, end, slots int64) {
	w := s.width()
	i, j := floorDiv(start, w), floorDiv(end, w)
	last := s.cell(j)
	if i == j {
		last.busy += (end - start) * slots
	} else {
		last.busy += (end - j*w) * slots
		s.cell(i).busy += ((i+1)*w - start) * slots
		if i+1 < j {
			s.cell(i + 1).delta += int32(slots)
			last.delta -= int32(slots)
		}
	}
	for len(s.cells) > s.max && s.level+1 < len(widths) {
		s.coarsen()
	}
}

func (s *series) cell(i int64) *cell {
	if s.recent != nil && s.recentAt == i {
		return s.recent
	}
	c := s.cells[i]
	if c == nil {
		c = &cell{}
		s.cells[i] = c
	}
	s.recent, s.recentAt = c, i
	return c
}

// coarsen changes to the next width.
func (s *series) coarsen() {
	old, w := s.cells, s.width()
	s.level++
	k := s.width() / w
	s.cells, s.recent = make(map[int64]*cell, len(old)), nil
	for at, c := range old {
		i := floorDiv(at, k)
		to := s.cell(i)
		for class, n := range c.n {
			to.n[class] += n
		}
		to.busy += c.busy
		switch part := at - i*k; {
		case c.delta == 0:
		case part == 0:
			to.delta += c.delta
		default:
			to.busy += int64(c.delta) * (k - part) * w
			s.cell(i + 1).delta += c.delta
		}
	}
}

// coarsenTo changes to the given level, if the level of s is lower.
func (s *series) coarsenTo(level int) {
	for s.level < level {
		s.coarsen()
	}
}

// merge adds the attempts of another series, which must not be used after that.
func (s *series) merge(o *series) {
	o.coarsenTo(s.level)
	s.coarsenTo(o.level)
	for i, c := range o.cells {
		to := s.cell(i)
		for class, n := range c.n {
			to.n[class] += n
		}
		to.busy += c.busy
		to.delta += c.delta
	}
	for len(s.cells) > s.max && s.level+1 < len(widths) {
		s.coarsen()
	}
}

// A bin is a bucket of a finished series.
type bin struct {
	n    [classes]int64
	busy int64 // slot time in microseconds
}

// bins returns the buckets in [from, to).
func (s *series) bins(from, to int64) []bin {
	all := make([]bin, to-from)
	running := int64(0)
	at := from
	for _, i := range slices.Sorted(maps.Keys(s.cells)) {
		for ; at < min(i, to); at++ {
			all[at-from].busy = running * s.width()
		}
		c := s.cells[i]
		running += int64(c.delta)
		if i < from || i >= to {
			continue
		}
		b := &all[i-from]
		for class, n := range c.n {
			b.n[class] = int64(n)
		}
		b.busy = c.busy + running*s.width()
		at = i + 1
	}
	return all
}

// A segment is a range of buckets without long pauses.
type segment struct{ from, to int64 }

const (
	// maxSegments is the maximum number of ranges on the time axis.
	maxSegments = 6
	// minPause is the minimum pause that the time axis leaves out, as a share of the time that it shows.
	minPause = 0.15
)

// segments returns the ranges of buckets in which attempts ran, and leaves out long pauses.
func (s *series) segments() []segment {
	var all []segment // without any pause
	running := int32(0)
	for _, i := range slices.Sorted(maps.Keys(s.cells)) {
		if n := len(all); n > 0 && (running > 0 || all[n-1].to >= i) {
			all[n-1].to = i + 1
		} else {
			all = append(all, segment{i, i + 1})
		}
		running += s.cells[i].delta
	}
	active := int64(0)
	for _, g := range all {
		active += g.to - g.from
	}
	pauses := make([]int64, 0, len(all))
	for i := 1; i < len(all); i++ {
		pauses = append(pauses, all[i].from-all[i-1].to)
	}
	slices.SortFunc(pauses, func(a, b int64) int { return int(min(max(b-a, -1), 1)) })
	limit := max(int64(minPause*float64(active)), 3)
	if len(pauses) >= maxSegments {
		limit = max(limit, pauses[maxSegments-1]) // a pause must be longer than the limit
	}
	var kept []segment
	for _, g := range all {
		if n := len(kept); n > 0 && g.from-kept[n-1].to <= limit {
			kept[n-1].to = g.to
		} else {
			kept = append(kept, g)
		}
	}
	return kept
}

// fit coarsens the series until its segments have at most limit buckets, and returns the segments.
func (s *series) fit(limit int64) []segment {
	for {
		segments := s.segments()
		n := int64(0)
		for _, g := range segments {
			n += g.to - g.from
		}
		if n <= limit || s.level+1 >= len(widths) {
			return segments
		}
		s.coarsen()
	}
}

func floorDiv(a, b int64) int64 {
	if q := a / b; a%b >= 0 {
		return q
	} else {
		return q - 1
	}
}
