package stages

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets. Each range from a power of two to the next is divided into
// eight buckets. The size of a histogram does not depend on the number of durations.
type histogram struct {
	buckets [bucketCount]int64
	total   int64
	longest time.Duration
}

const (
	bucketBits  = 3 // 1<<bucketBits buckets per power of two
	bucketCount = (64 - bucketBits) << bucketBits
)

func (l *histogram) add(d time.Duration) {
	l.buckets[bucketOf(d)]++
	l.total++
	l.longest = max(l.longest, d)
}

// bucketOf returns the index of the bucket of d. Durations below 1 ns count as 1 ns.
func bucketOf(d time.Duration) int {
	n := uint64(max(d, 1))
	shift := max(bits.Len64(n)-bucketBits-1, 0)
	return shift<<bucketBits + int(n>>shift)
}

// upperBound returns the longest duration that belongs to the bucket with the given index.
func upperBound(bucket int) time.Duration {
	shift := max(bucket>>bucketBits-1, 0)
	return time.Duration((bucket-shift<<bucketBits+1)<<shift - 1)
}

// quantile returns an upper bound of the q-quantile. The bound never exceeds the longest duration.
func (l *histogram) quantile(q float64) time.Duration {
	if l.total == 0 {
		return 0
	}
	remaining := int64(q * float64(l.total))
	for bucket, n := range l.buckets {
		if remaining -= n; remaining < 0 || remaining == 0 && q >= 1 {
			return min(upperBound(bucket), l.longest)
		}
	}
	return l.longest
}
