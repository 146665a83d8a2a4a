package worker

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

const (
	// maxBackoff limits the time before a retry.
	maxBackoff = time.Hour
	// maxWaitingBytes limits the memory of tasks that wait for a retry. If this limit is exceeded, no
	// further tasks are received until some of the waiting tasks have run.
	maxWaitingBytes = 64 << 20
	// waitingTaskBytes is the memory that a waiting task takes in addition to its ID and data.
	waitingTaskBytes = 128
)

// retryingSource delivers tasks again after a failure. A task that waits for its retry occupies no slot.
type retryingSource struct {
	pipeline.Source
	retries int           // maximum number of retries of a task
	backoff time.Duration // time before the first retry
	limit   int64         // number of tasks to receive from Source; negative if there is no limit

	mu        sync.Mutex
	waiting   waitingTasks
	bytes     int   // memory of waiting
	inFlight  int   // deliveries that are not settled
	fresh     int64 // number of tasks received from Source
	exhausted bool  // no more tasks are received from Source
	// wake interrupts a blocked Receive, which then checks again whether it can return. wake is called
	// when a retry is due, and when the last delivery is settled. It is nil while Receive is not
	// blocked.
	wake context.CancelFunc
}

// errWake interrupts a Receive of the underlying source.
var errWake = errors.New("a task waits for its retry")

// waitingTask is a task that waits for its retry.
type waitingTask struct {
	at      time.Time
	task    pipeline.Task
	attempt int
	retries int  // number of retries in this run, including the next one
	rerun   bool // see plumbing.Delivery.SetRerun
}

// waitingTasks is a heap whose first element is due first.
type waitingTasks []waitingTask

func (h waitingTasks) Len() int           { return len(h) }
func (h waitingTasks) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h waitingTasks) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *waitingTasks) Push(x any) {
	t, _ := x.(waitingTask)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *waitingTasks) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = waitingTask{}
	*h = (*h)[:last]
	return t
}

// Receive implements pipeline.Source. It prefers tasks whose retry is due.
func (s *retryingSource) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	for {
		s.mu.Lock()
		if ds := s.due(limit); len(ds) > 0 {
			s.mu.Unlock()
			return ds, nil
		}
		if s.exhausted && s.inFlight == 0 && len(s.waiting) == 0 {
			s.mu.Unlock()
			return nil, io.EOF
		}
		receive, limit := s.mayReceive(limit)
		inner, cancel := context.WithCancelCause(ctx)
		s.wake = func() { cancel(errWake) }
		timer := s.wakeWhenDue()
		s.mu.Unlock()

		var ds []*pipeline.Delivery
		var err error
		if receive {
			ds, err = s.Source.Receive(inner, limit)
		} else {
			<-inner.Done()
			err = inner.Err()
		}
		timer.Stop()
		s.mu.Lock()
		s.wake = nil
		ds, err = s.received(ds, err)
		s.mu.Unlock()
		woken := errors.Is(context.Cause(inner), errWake)
		cancel(nil)
		switch {
		case len(ds) > 0:
			return ds, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil && !woken:
			return nil, err
		}
	}
}

// mayReceive reports whether Source may be asked for tasks, and for how many. The caller holds s.mu.
func (s *retryingSource) mayReceive(limit int) (bool, int) {
	if s.limit >= 0 {
		limit = int(min(int64(limit), s.limit-s.fresh))
	}
	return !s.exhausted && s.bytes < maxWaitingBytes, limit
}

// wakeWhenDue starts a timer that interrupts Receive when the first retry is due. The caller holds s.mu.
func (s *retryingSource) wakeWhenDue() *time.Timer {
	d := maxBackoff * 2
	if len(s.waiting) > 0 {
		d = time.Until(s.waiting[0].at)
	}
	return time.AfterFunc(d, s.wake)
}

// due returns up to limit tasks whose retry is due. The caller holds s.mu.
func (s *retryingSource) due(limit int) (ds []*pipeline.Delivery) {
	now := time.Now()
	for len(ds) < limit && len(s.waiting) > 0 && !s.waiting[0].at.After(now) {
		t, _ := heap.Pop(&s.waiting).(waitingTask)
		s.bytes -= t.size()
		d := s.deliver(t.task, t.attempt, t.retries)
		if t.rerun {
			d.Plumbing().SetRerun()
		}
		ds = append(ds, d)
	}
	return ds
}

// received registers the deliveries and the error that Source has returned, and converts them to those that
// Receive returns. The caller holds s.mu.
func (s *retryingSource) received(ds []*pipeline.Delivery, err error) ([]*pipeline.Delivery, error) {
	s.fresh += int64(len(ds))
	own := make([]*pipeline.Delivery, len(ds))
	for i, d := range ds {
		own[i] = s.deliver(d.Task, d.Attempt, 0)
		if d.Plumbing().IsRerun() {
			own[i].Plumbing().SetRerun()
		}
	}
	if errors.Is(err, io.EOF) || s.limit >= 0 && s.fresh >= s.limit {
		s.exhausted = true
		err = nil
	}
	return own, err
}

// deliver returns a new delivery of a task. The caller holds s.mu.
func (s *retryingSource) deliver(task pipeline.Task, attempt, retries int) *pipeline.Delivery {
	lease := &retryLease{source: s, task: task, attempt: attempt, retries: retries}
	d := pipeline.NewDelivery(task, lease, attempt)
	s.inFlight++
	d.Plumbing().OnSettled(lease.settled)
	return d
}

// state returns the number of tasks received from Source, and whether no more tasks will be received from it.
func (s *retryingSource) state() (received, waiting int64, exhausted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fresh, int64(len(s.waiting)), s.exhausted
}

// decide changes the verdict of a task that has used all its retries. It is called before the task is
// settled.
func (s *retryingSource) decide(d *pipeline.Decision) {
	lease, ok := d.Plumbing().Lease().(*retryLease)
	if !ok || d.Verdict != pipeline.Retry {
		return
	}
	if lease.retries >= s.retries {
		d.Verdict = pipeline.Ack
		d.RetryDeniedReason = fmt.Sprintf("attempt %d: a run retries a task at most %d times (--retries)", d.Attempt, s.retries)
		return
	}
	lease.retry, lease.rerun = true, d.Plumbing().IsRerun()
}

// settledOne registers that a delivery was settled. next is its retry, or nil.
func (s *retryingSource) settledOne(next *waitingTask) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	if next != nil {
		heap.Push(&s.waiting, *next)
		s.bytes += next.size()
	}
	if s.wake != nil && (next != nil && s.waiting[0].at.Equal(next.at) || s.exhausted && s.inFlight == 0) {
		s.wake()
	}
}

func (t *waitingTask) size() int { return waitingTaskBytes + len(t.task.ID) + len(t.task.Data) }

// wait returns the time before a retry: the backoff, doubled for each retry before this one, and changed
// at random by up to a quarter. The random part spreads the retries of tasks that failed at the same
// time.
func (s *retryingSource) wait(retries int) time.Duration {
	d := min(float64(s.backoff)*math.Pow(2, float64(retries-1)), float64(maxBackoff))
	return time.Duration(d * (0.75 + rand.Float64()/2)) //nolint:gosec // not for security
}

// retryLease is the lease of a delivery of a retryingSource. It never expires.
type retryLease struct {
	source  *retryingSource
	task    pipeline.Task
	attempt int
	retries int // number of retries in this run before this delivery
	// retry states that Release schedules a retry. If retry is false, a released task does not run
	// again in this run.
	retry bool
	rerun bool // see plumbing.Delivery.SetRerun; set with retry
}

// settled is called when the delivery is settled, before Release.
func (l *retryLease) settled() {
	if !l.retry {
		l.source.settledOne(nil)
	}
}

// Ack implements pipeline.Lease.
func (l *retryLease) Ack(context.Context) error { return nil }

// Release implements pipeline.Lease. It ignores the delay, which is meant for queues.
func (l *retryLease) Release(context.Context, time.Duration) error {
	if !l.retry {
		return nil
	}
	retries := l.retries + 1
	// The ID and the data may be parts of a much larger buffer of the source.
	task := pipeline.Task{ID: strings.Clone(l.task.ID), Data: bytes.Clone(l.task.Data)}
	l.source.settledOne(&waitingTask{at: time.Now().Add(l.source.wait(retries)), task: task, attempt: l.attempt + 1, retries: retries, rerun: l.rerun})
	return nil
}

// Extend implements pipeline.Lease.
func (l *retryLease) Extend(context.Context, time.Duration) (time.Time, error) {
	return time.Time{}, nil
}

// ExpiresAt implements pipeline.Lease.
func (l *retryLease) ExpiresAt() time.Time { return time.Time{} }

// retryFailures makes the source of the run deliver failed tasks again, if --retries is set.
func (w *Worker) retryFailures() error {
	cfg := w.opts.Config
	if cfg.Retries == 0 {
		return nil
	}
	if w.hasLeases() || isShared(w.source) {
		return &ConfigError{errors.New("--retries cannot be used with this program, because its source delivers tasks again: omit --retries, and select the failures to retry with --retry-on-exit, --retry-on-exception or --retry-on-timeout")}
	}
	limit := limitOf(cfg)
	if limit >= 0 {
		limit += w.skip()
	}
	w.retrying = &retryingSource{Source: w.source, retries: cfg.Retries, backoff: cfg.RetryBackoff, limit: limit, exhausted: limit == 0}
	w.source, w.stats.FinalOnly = w.retrying, true
	return nil
}
