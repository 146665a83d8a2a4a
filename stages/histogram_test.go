package stages

import (
	"math"
	"testing"
	"time"
)

func TestHistogram_Buckets(t *testing.T) {
	t.Parallel()
	last := -1
	for _, d := range []time.Duration{-5, 0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 1000, time.Microsecond, time.Millisecond, time.Second, time.Hour, math.MaxInt64} {
		bucket := bucketOf(d)
		if bucket < last || bucket >= bucketCount {
			t.Fatalf("%d is in bucket %d, after bucket %d of %d", d, bucket, last, bucketCount)
		}
		last = bucket
		if bound := upperBound(bucket); bound < d || d > 8 && float64(bound) > float64(d)*1.126 {
			t.Errorf("bucket %d of duration %d has the upper bound %d", bucket, d, bound)
		}
		if got := bucketOf(upperBound(bucket)); got != bucket {
			t.Errorf("the upper bound of bucket %d is in bucket %d", bucket, got)
		}
		if upperBound(bucket) < math.MaxInt64 && bucketOf(upperBound(bucket)+1) != bucket+1 {
			t.Errorf("the duration after the upper bound of bucket %d is in bucket %d", bucket, bucketOf(upperBound(bucket)+1))
		}
	}
}

func TestHistogram_Quantile(t *testing.T) {
	t.Parallel()
	var l histogram
	if got := l.quantile(0.5); got != 0 {
		t.Errorf("quantile of an empty histogram: %v, want 0", got)
	}
	for i := range 1000 {
		l.add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{
		0: time.Millisecond, 0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: 1000 * time.Millisecond,
	} {
		if got := l.quantile(q); float64(got) < float64(want) || float64(got) > float64(want)*1.14 || got > time.Second {
			t.Errorf("%v-quantile %v, want about %v", q, got, want)
		}
	}
}
