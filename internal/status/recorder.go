package status

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

const (
	keptFailures = 50
	keptSlowest  = 20
	// maxText is the maximum length of a kept task ID or reason, in bytes.
	maxText = 500
	// historyPoints is the maximum number of points of the history. When there are more, neighbors are
	// merged, and each point then stands for twice the time.
	historyPoints   = 600
	historyInterval = time.Second
)

// An Attempt is an attempt of a task that has ended.
type Attempt struct {
	TaskID        string
	Attempt, Slot int
	Outcome       string
	Failed        bool
	Retried       bool
	Elapsed       time.Duration
}

// A Recorder records the attempts of a run. Its methods are safe for concurrent use. The zero value
// is not usable; call NewRecorder.
type Recorder struct {
	durations histogram    // of all attempts
	slow      atomic.Int64 // an attempt that took longer, in nanoseconds, is among the slowest

	mu       sync.Mutex
	failed   int64
	failures []Failure // a ring; the oldest is at next
	next     int
	slowest  []Slow // sorted, longest first

	history     History
	interval    time.Duration
	intervalEnd time.Time
	seen        [2]int64 // completed and failed at the end of the last interval
}

// NewRecorder returns a Recorder for a run that starts now.
func NewRecorder(now time.Time) *Recorder {
	r := &Recorder{interval: historyInterval, intervalEnd: now.Add(historyInterval)}
	r.slow.Store(-1)
	return r
}

// AddDuration records the duration of an attempt. If it returns true, the caller must also call Add.
// It takes a few nanoseconds, and is enough for most attempts.
func (r *Recorder) AddDuration(elapsed time.Duration, failed bool) (more bool) {
	r.durations.add(elapsed)
	return failed || int64(elapsed) > r.slow.Load()
}

// Add records an attempt that failed, or that took longer than most. reason is why it failed.
func (r *Recorder) Add(a Attempt, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.Failed {
		r.failed++
		r.addFailure(a, reason)
	}
	if int64(a.Elapsed) > r.slow.Load() {
		r.addSlow(a)
	}
}

func (r *Recorder) addFailure(a Attempt, reason string) {
	f := Failure{
		At: time.Now(), TaskID: Cut(a.TaskID), Attempt: a.Attempt, Slot: a.Slot, Outcome: a.Outcome, Retried: a.Retried,
		Reason: Cut(reason),
	}
	if len(r.failures) < keptFailures {
		r.failures = append(r.failures, f)
		return
	}
	r.failures[r.next] = f
	r.next = (r.next + 1) % keptFailures
}

func (r *Recorder) addSlow(a Attempt) {
	s := Slow{TaskID: Cut(a.TaskID), Attempt: a.Attempt, Slot: a.Slot, Seconds: a.Elapsed.Seconds(), Outcome: a.Outcome, elapsed: a.Elapsed}
	at, _ := slices.BinarySearchFunc(r.slowest, s, func(a, b Slow) int {
		if a.elapsed >= b.elapsed {
			return -1
		}
		return 1
	})
	r.slowest = slices.Insert(r.slowest, at, s)
	if len(r.slowest) > keptSlowest {
		r.slowest = r.slowest[:keptSlowest]
	}
	if n := len(r.slowest); n == keptSlowest {
		r.slow.Store(int64(r.slowest[n-1].elapsed))
	}
}

// Cut returns the start of text, so that the memory of a long text is not kept.
func Cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	return string(append(utf8cut.Start([]byte(text), maxText), "…"...))
}

// Tick ends the intervals of the history that are over. Call it at least once per second.
func (r *Recorder) Tick(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	completed := r.durations.count() - r.failed
	for !now.Before(r.intervalEnd) {
		r.history.Completed = append(r.history.Completed, completed-r.seen[0])
		r.history.Failed = append(r.history.Failed, r.failed-r.seen[1])
		r.seen = [2]int64{completed, r.failed}
		if len(r.history.Completed) == historyPoints {
			merge(&r.history.Completed)
			merge(&r.history.Failed)
			r.interval *= 2
		}
		r.intervalEnd = r.intervalEnd.Add(r.interval)
	}
}

// merge adds each point of a history with an even number of points to its neighbor.
func merge(points *[]int64) {
	p := *points
	for i := range len(p) / 2 {
		p[i] = p[2*i] + p[2*i+1]
	}
	*points = p[:len(p)/2]
}

// Fill sets the parts of a snapshot that come from the Recorder.
func (r *Recorder) Fill(s *Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Duration = r.durations.quantiles()
	s.History = History{
		IntervalSeconds: r.interval.Seconds(),
		Completed:       append(slices.Clone(r.history.Completed), r.durations.count()-r.failed-r.seen[0]),
		Failed:          append(slices.Clone(r.history.Failed), r.failed-r.seen[1]),
	}
	s.Failures = make([]Failure, 0, len(r.failures))
	for i := range r.failures {
		s.Failures = append(s.Failures, r.failures[(r.next+len(r.failures)-1-i)%len(r.failures)])
	}
	s.Slowest = slices.Clone(r.slowest)
}

// histogram counts durations in buckets whose boundaries are powers of 2^(1/8) seconds. These are the
// boundaries of a native histogram of Prometheus with schema 3.
// It is safe for concurrent use.
type histogram struct {
	sum     atomic.Int64 // in nanoseconds
	longest atomic.Int64 // in nanoseconds
	buckets [bucketCount]atomic.Int64
}

const (
	schema      = 3   // of the native histogram: 2^3 buckets per power of two
	minExponent = -20 // the first bucket ends at 2^-20 s, about a microsecond
	maxExponent = 20  // 2^20 s are twelve days
	bucketCount = (maxExponent-minExponent)<<schema + 1
)

// bounds are the boundaries within [0.5, 1).
var bounds = func() (b [1 << schema]float64) {
	for i := range b {
		b[i] = math.Exp2(float64(i)/(1<<schema) - 1)
	}
	return b
}()

// bucketOf returns the index of the bucket of d. Bucket i ends at upperBound(i), inclusive.
func bucketOf(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	fraction, exponent := math.Frexp(d.Seconds())
	i := len(bounds) - 1
	for i > 0 && fraction <= bounds[i] {
		i--
	}
	if fraction <= bounds[0] {
		i = -1
	}
	// fraction is above bounds[i], so d is above 2^(exponent-1+i/8), and belongs to the bucket that ends at
	// 2^(exponent-1+(i+1)/8).
	index := (exponent-1-minExponent)<<schema + i + 1
	return min(max(index, 0), bucketCount-1)
}

// upperBound returns the end of a bucket in seconds.
func upperBound(bucket int) float64 {
	return math.Exp2(float64(bucket)/(1<<schema) + minExponent)
}

func (h *histogram) add(d time.Duration) {
	h.buckets[bucketOf(d)].Add(1)
	h.sum.Add(int64(d))
	for {
		longest := h.longest.Load()
		if int64(d) <= longest || h.longest.CompareAndSwap(longest, int64(d)) {
			return
		}
	}
}

// count returns the number of durations.
func (h *histogram) count() (n int64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

func (h *histogram) quantiles() Quantiles {
	return Quantiles{P50: h.quantile(0.5), P90: h.quantile(0.9), P99: h.quantile(0.99), Max: h.max()}
}

// quantile returns an upper bound of the q-quantile in seconds.
func (h *histogram) quantile(q float64) float64 {
	remaining := int64(q * float64(h.count()))
	for i := range h.buckets {
		if remaining -= h.buckets[i].Load(); remaining < 0 {
			return min(upperBound(i), h.max())
		}
	}
	return h.max()
}

// max returns the longest duration in seconds.
func (h *histogram) max() float64 { return time.Duration(h.longest.Load()).Seconds() }
