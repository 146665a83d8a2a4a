package journal

import "runtime"

// Latest contains the outcome of each task ID according to its latest attempt. Unlike a Journal, it counts
// a task ID once, however often its events are repeated. It is not safe for concurrent use.
//
// The memory of a Latest is freed when it is unreachable.
type Latest struct {
	table   *table
	finals  [Exited + 1]int64
	pending int64
}

// NewLatest returns an empty Latest.
func NewLatest() *Latest {
	l := &Latest{table: newTable()}
	runtime.AddCleanup(l, (*table).free, l.table)
	return l
}

// Add records an event, and returns the kinds of the final event of the task before and after it. The kind
// is None without a final event. changed reports whether the event is neither a repetition nor older than
// an event that was added before.
//
// A task with a final event keeps one: a later event that requests a retry does not change the outcome,
// because the order of a queue is arbitrary. A final event of a later attempt replaces the outcome. So does
// one with the same number, because some queues do not count attempts, unless the task has completed.
func (l *Latest) Add(e Event) (before, after Kind, changed bool) {
	defer runtime.KeepAlive(l)
	p := l.table.insert(e.TaskID)
	before = p.kind()
	attempt := min(max(e.Attempt, 1), maxAttempt)
	known := p.attempt() > 0
	switch {
	case known && attempt < p.attempt() && !e.Rerun:
		return before, before, false
	case e.Retry:
		isNew := !known || attempt > p.attempt()
		if before == None {
			if !p.retry() {
				l.pending++
				*p |= retryPending
			}
			*p = *p&^attemptMask | entry(attempt)
		}
		return before, before, isNew
	}
	if before == Completed && attempt <= p.attempt() && !e.Rerun {
		return before, before, false
	}
	changed = before != e.Kind || attempt > p.attempt()
	if p.retry() {
		l.pending--
	}
	if before != None {
		l.finals[before]--
	}
	l.finals[e.Kind]++
	*p = *p&^(kindMask|retryPending|attemptMask) | entry(e.Kind)<<kindShift | entry(attempt)
	return before, e.Kind, changed
}

// Count returns the number of task IDs whose latest outcome is of a kind. For None, it returns the number of
// task IDs that wait for a retry.
func (l *Latest) Count(k Kind) int64 {
	if k == None {
		return l.pending
	}
	return l.finals[k]
}

// Done returns the number of task IDs with a final event, and Failed the number of these that did not
// complete.
func (l *Latest) Done() int64 { return l.finals[Completed] + l.Failed() }

// Failed returns the number of task IDs whose latest outcome is a failure.
func (l *Latest) Failed() int64 { return l.finals[Exception] + l.finals[TimedOut] + l.finals[Exited] }

// A Set is a set of task IDs. It is not safe for concurrent use. Its memory is freed when it is unreachable.
type Set struct{ table *table }

// NewSet returns an empty Set.
func NewSet() *Set {
	s := &Set{newTable()}
	runtime.AddCleanup(s, (*table).free, s.table)
	return s
}

// Add adds a task ID.
func (s *Set) Add(id string) {
	s.table.insert([]byte(id))
	runtime.KeepAlive(s)
}

// Len returns the number of different task IDs.
func (s *Set) Len() (n int64) {
	for i := range s.table.shards {
		n += int64(s.table.shards[i].used)
	}
	return n
}
