package fleet

import "time"

// rateWindow is the longest time over which the rate is the average.
const rateWindow = time.Hour

// rate calculates the number of tasks that end per second, from the timestamps of their events. It does not
// depend on when the events arrive, so a backlog of old events does not increase the rate.
type rate struct {
	counts [rateWindow / time.Second]struct {
		second int64
		count  int64
	}
	first int64 // second of the earliest event; 0 if there is none
}

// add counts an event. An event in the future counts as one at now, because the clocks of machines differ.
// A zero now means that there is no such limit.
func (r *rate) add(at, now time.Time) {
	if at.IsZero() {
		return
	}
	if !now.IsZero() && at.After(now) {
		at = now
	}
	second := at.Unix()
	if r.first == 0 || second < r.first {
		r.first = second
	}
	c := &r.counts[uint64(second)%uint64(len(r.counts))]
	switch {
	case c.second < second:
		c.second, c.count = second, 1
	case c.second == second:
		c.count++
	}
}

// minForRate is the number of tasks, and minRateWindow the time in seconds, from which the average is taken.
const (
	minForRate    = 10
	minRateWindow = 60
)

// perSecond returns the rate: the average over the shortest time before now that is at least a minute and
// contains at least ten tasks. The longest time is an hour, or since the first task. The rate is therefore
// steady for slow tasks, and soon approaches 0 when no more tasks end.
func (r *rate) perSecond(now time.Time) float64 {
	if r.first == 0 {
		return 0
	}
	end := now.Unix()
	longest := min(int64(len(r.counts)), max(end-r.first+1, 1))
	count, passed := int64(0), int64(0)
	for passed < longest && (passed < minRateWindow || count < minForRate) {
		second := end - passed
		if c := &r.counts[uint64(second)%uint64(len(r.counts))]; c.second == second {
			count += c.count
		}
		passed++
	}
	if passed > minRateWindow && count >= minForRate { // the time starts at a task, which does not count
		count--
	}
	return float64(count) / float64(max(passed, 1))
}
