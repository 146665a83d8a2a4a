package status

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func add(r *Recorder, i int, failed bool, elapsed time.Duration) {
	if r.AddDuration(elapsed, failed) {
		r.Add(Attempt{TaskID: fmt.Sprint("t", i), Attempt: 1, Outcome: "exited", Failed: failed, Elapsed: elapsed}, fmt.Sprint("reason ", i))
	}
}

// The last failures and the slowest attempts are kept, in order.
func TestRecorder_FailuresAndSlowest(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, keptFailures, 3*keptFailures + 7} {
		r := NewRecorder(time.Now())
		for i := range n {
			add(r, i, true, time.Duration(i)*time.Second)
		}
		var s Snapshot
		r.Fill(&s)
		if len(s.Failures) != min(n, keptFailures) || len(s.Slowest) != min(n, keptSlowest) {
			t.Errorf("%d: %d failures, %d slowest", n, len(s.Failures), len(s.Slowest))
		}
		for i, f := range s.Failures {
			if want := fmt.Sprint("t", n-1-i); f.TaskID != want || f.Reason != fmt.Sprint("reason ", n-1-i) {
				t.Errorf("%d: failure %d is %+v, want task %s", n, i, f, want)
			}
		}
		for i, a := range s.Slowest {
			if a.Seconds != float64(n-1-i) {
				t.Errorf("%d: attempt %d took %v s", n, i, a.Seconds)
			}
		}
	}
}

// The history never loses a task, whatever its length, and its size is bounded.
func TestRecorder_History(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	r := NewRecorder(start)
	completed, failed := int64(0), int64(0)
	for second := 1; second <= 10_000; second++ {
		for i := range second % 3 {
			add(r, i, i == 0, time.Millisecond)
			if i == 0 {
				failed++
			} else {
				completed++
			}
		}
		if second%7 != 0 { // some ticks are missing
			r.Tick(start.Add(time.Duration(second) * time.Second))
		}
		if second%1000 != 0 {
			continue
		}
		var s Snapshot
		r.Fill(&s)
		h := s.History
		sum := func(points []int64) (n int64) {
			for _, p := range points {
				n += p
			}
			return n
		}
		if sum(h.Completed) != completed || sum(h.Failed) != failed || len(h.Completed) != len(h.Failed) || len(h.Completed) > historyPoints {
			t.Errorf("after %d s: %d points, %d completed, %d failed, want %d and %d", second, len(h.Completed), sum(h.Completed), sum(h.Failed), completed, failed)
		}
		if covered := float64(len(h.Completed)) * h.IntervalSeconds; covered < float64(second)-h.IntervalSeconds || covered > float64(second)+2*h.IntervalSeconds {
			t.Errorf("after %d s, the history covers %v s", second, covered)
		}
	}
}

// A quantile exceeds the exact one by at most an eighth.
func TestHistogram_Quantiles(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // reproducible
	var h histogram
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(random.ExpFloat64() * float64(time.Second))
		all = append(all, d)
		h.add(d)
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.9999} {
		exact := all[int(q*float64(len(all)))].Seconds()
		if got := h.quantile(q); got < exact || got > exact*1.125 {
			t.Errorf("q%v: %v, exact %v", q, got, exact)
		}
	}
}

// Each duration is in the bucket whose bounds enclose it, also at the bounds and outside of all.
func TestBucketOf(t *testing.T) {
	t.Parallel()
	for d := time.Duration(-1); d < 1<<59; d = d*9/8 + 1 {
		b := bucketOf(d)
		if b > 0 && d.Seconds() <= upperBound(b-1) || b < bucketCount-1 && d.Seconds() > upperBound(b) {
			t.Errorf("%v is in the bucket from %v to %v", d, upperBound(max(b-1, 0)), upperBound(b))
		}
	}
	for b := range bucketCount {
		d := time.Duration(upperBound(b) * float64(time.Second))
		if got := bucketOf(d); got != b && got != b-1 { // d is rounded to nanoseconds
			t.Errorf("the bound %v of bucket %d is in bucket %d", d, b, got)
		}
	}
	if got := bucketOf(time.Second); upperBound(got) != 1 {
		t.Errorf("1 s is in the bucket that ends at %v", upperBound(got))
	}
}

// Long task IDs and reasons are cut.
func TestRecorder_LongTexts(t *testing.T) {
	t.Parallel()
	r := NewRecorder(time.Now())
	long := strings.Repeat("é", 100_000)
	r.Add(Attempt{TaskID: long, Failed: true}, long)
	var s Snapshot
	r.Fill(&s)
	for _, text := range []string{s.Failures[0].TaskID, s.Failures[0].Reason, s.Slowest[0].TaskID} {
		if len(text) > maxText+10 || !strings.HasSuffix(text, "é…") {
			t.Errorf("%d bytes: %.10q", len(text), text)
		}
	}
}
