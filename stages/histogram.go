package stages

import (
	"math/bits"
	"time"
)

// latencies counts durations by their size, eight classes to a power of two: enough for
// quantiles, in the same memory for any number of tasks.
type histogram struct {
	buckets [classCount]int64
	total   int64
	longest time.Duration
}

const (
	classBits  = 3 // of a class within its power of two
	classCount = (64 - classBits) << classBits
)

func (l *histogram) add(d time.Duration) {
	l.buckets[classOf(d)]++
	l.total++
	l.longest = max(l.longest, d)
}

// classOf is the class of a duration in ns; what is below 1 counts as 1.
func classOf(d time.Duration) int {
	n := uint64(max(d, 1))
	shift := max(bits.Len64(n)-classBits-1, 0)
	return shift<<classBits + int(n>>shift)
}

// top is the largest duration of a class.
func top(class int) time.Duration {
	shift := max(class>>classBits-1, 0)
	return time.Duration((class-shift<<classBits+1)<<shift - 1)
}

// quantile returns a duration that the given share of all does not exceed. It is at most the longest.
func (l *histogram) quantile(share float64) time.Duration {
	if l.total == 0 {
		return 0
	}
	left := int64(share * float64(l.total))
	for class, n := range l.buckets {
		if left -= n; left < 0 || left == 0 && share >= 1 {
			return min(top(class), l.longest)
		}
	}
	return l.longest
}
