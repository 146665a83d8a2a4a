package journal

import (
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
)

// Kind is the outcome in a task event.
type Kind uint8

// The kinds of task events. None is the kind of a task without an event.
const (
	None Kind = iota + 1 // not 0, because an entry that is 0 is free
	Completed
	Exception
	TimedOut
	Exited
)

// String returns the name of the kind, as in --rerun.
func (k Kind) String() string {
	switch k {
	case Completed:
		return "completed"
	case Exception:
		return "exception"
	case TimedOut:
		return "timed_out"
	case Exited:
		return "exited"
	case None:
	}
	return "none"
}

// Kinds is a set of Kinds.
type Kinds uint8

// Has reports whether k is in the set.
func (s Kinds) Has(k Kind) bool { return s&(1<<k) != 0 }

// kindNames are the values of --rerun.
var kindNames = []struct {
	name string
	set  Kinds
}{
	{"failed", 1<<Exception | 1<<TimedOut | 1<<Exited},
	{"exception", 1 << Exception},
	{"exited", 1 << Exited},
	{"timed_out", 1 << TimedOut},
}

// ParseKinds parses a list of kinds that are separated by commas, such as "exited,timed_out".
func ParseKinds(text string) (Kinds, error) {
	var set Kinds
	for name := range strings.SplitSeq(text, ",") {
		found := false
		for _, k := range kindNames {
			if k.name == strings.TrimSpace(name) {
				set, found = set|k.set, true
			}
		}
		if !found {
			return 0, errors.New("not a kind of failed tasks; give failed, exception, exited or timed_out, or several of them separated by commas")
		}
	}
	return set, nil
}

// A Journal contains the state of each task in some event logs. It is not safe for concurrent use.
type Journal struct {
	table *table
	rerun Kinds
	// mixed has the kinds of the final events of the tasks that have several such events of different
	// kinds, by the task ID. There are few of them. All final events of any other task are of the kind in
	// its entry.
	mixed map[string][]Kind
}

// Counts are numbers of tasks in the logs.
type Counts struct {
	// Done is the number of tasks with a final event, and Failed is the number of these tasks that did
	// not complete. Both exclude tasks that are run again because of the kinds passed to New.
	Done, Failed int64
	// Rerun is the number of tasks that are run again although they have a final event.
	Rerun int64
	// Unfinished is the number of tasks whose last event requests a retry.
	Unfinished int64
}

// New returns an empty Journal. Tasks whose last event is of a kind in rerun are run again although
// they are done.
//
// The memory of the Journal is freed when the Journal is unreachable; see also Free.
func New(rerun Kinds) *Journal { return newJournal(newTable(), rerun) }

func newJournal(t *table, rerun Kinds) *Journal {
	j := &Journal{table: t, rerun: rerun}
	runtime.AddCleanup(j, (*table).free, t)
	return j
}

// Free frees the memory of the Journal without waiting for the garbage collector. The Journal must not be
// used after Free.
func (j *Journal) Free() {
	j.table.free()
	runtime.KeepAlive(j)
}

// Clone returns a copy of the Journal. Next changes only the Journal on which it is called.
func (j *Journal) Clone() *Journal {
	defer runtime.KeepAlive(j)
	c := newJournal(j.table.clone(), j.rerun)
	c.mixed = maps.Clone(j.mixed) // no method changes the elements
	return c
}

// An Event is the part of a task event that a Journal needs.
type Event struct {
	TaskID  []byte
	Kind    Kind
	Retry   bool // the event requests a retry of the task
	Attempt int  // 0 if the event has none
	// Rerun states that this event replaces an earlier final event of the task.
	Rerun bool
}

// Add records an event. Events must be added in the order in which they were written.
func (j *Journal) Add(e Event) {
	defer runtime.KeepAlive(j)
	p := j.table.insert(e.TaskID)
	if p.finals() == 0 && !e.Rerun && !e.Retry && len(j.mixed) == 0 { // most events
		*p = p.withFinals(1)&^(kindMask|retryPending|rerunPending|attemptMask) |
			entry(e.Kind)<<kindShift | entry(min(max(e.Attempt, p.attempt(), 1), maxAttempt))
		return
	}
	finals := j.finals(p, e.TaskID)
	if e.Rerun && *p&rerunPending == 0 { // otherwise, the event of an earlier attempt has removed it
		finals = withoutFailed(finals)
	}
	if !e.Retry {
		finals = append(finals, e.Kind)
	}
	n := *p &^ (retryPending | rerunPending | attemptMask)
	if e.Retry {
		n |= retryPending
		if e.Rerun {
			n |= rerunPending
		}
	}
	*p = n | entry(min(max(e.Attempt, p.attempt(), 1), maxAttempt))
	j.setFinals(p, e.TaskID, finals)
}

// finals returns the kinds of the final events of a task, oldest first. The caller may change the result.
func (j *Journal) finals(p *entry, id []byte) []Kind {
	if mixed, ok := j.mixed[string(id)]; ok {
		return slices.Clone(mixed)
	}
	return slices.Repeat([]Kind{p.kind()}, p.finals())
}

// setFinals sets the kinds of the final events of a task.
func (j *Journal) setFinals(p *entry, id []byte, finals []Kind) {
	last := None
	if len(finals) > 0 {
		last = finals[len(finals)-1]
	}
	*p = p.withFinals(len(finals))&^kindMask | entry(last)<<kindShift
	if differs := func(k Kind) bool { return k != last }; !slices.ContainsFunc(finals, differs) {
		if len(j.mixed) > 0 {
			delete(j.mixed, string(id))
		}
		return
	}
	if j.mixed == nil {
		j.mixed = map[string][]Kind{}
	}
	j.mixed[string(id)] = finals
}

// withoutFailed removes the last final event that reports a failure, or the last one.
func withoutFailed(finals []Kind) []Kind {
	for i, k := range slices.Backward(finals) {
		if k != Completed {
			return slices.Delete(finals, i, i+1)
		}
	}
	return finals[:max(len(finals)-1, 0)]
}

// Decision is what to do with a task.
type Decision struct {
	// Skip is true if the task is done and is not run again. If Skip is true, Failed reports whether
	// the task did not complete.
	Skip, Failed bool
	// Attempt is the number of the attempt with which the task runs; 0 if it is skipped.
	Attempt int
	// Rerun is true if the task runs although it has a final event.
	Rerun bool
}

// Next returns the decision about the next occurrence of a task ID in the task file. If the ID has several
// final events, the first occurrence belongs to the last event, the second one to the event before it,
// and so on.
func (j *Journal) Next(id string) Decision {
	defer runtime.KeepAlive(j)
	p := j.table.find([]byte(id))
	switch {
	case p == nil:
		return Decision{Attempt: 1}
	case p.retry():
		rerun := *p&rerunPending != 0
		*p &^= retryPending | rerunPending
		return Decision{Attempt: p.attempt() + 1, Rerun: rerun}
	case p.finals() == 0:
		return Decision{Attempt: p.attempt() + 1}
	}
	kind := p.kind()
	if len(j.mixed) == 0 {
		*p = p.withFinals(p.finals() - 1)
	} else {
		finals := j.finals(p, []byte(id))
		j.setFinals(p, []byte(id), finals[:len(finals)-1])
	}
	if j.rerun.Has(kind) {
		return Decision{Attempt: p.attempt() + 1, Rerun: true}
	}
	return Decision{Skip: true, Failed: kind != Completed}
}

// Counts returns the numbers of tasks. Call it before Next.
func (j *Journal) Counts() Counts {
	var c Counts
	defer runtime.KeepAlive(j)
	add := func(k Kind, n int64) {
		switch {
		case j.rerun.Has(k):
			c.Rerun += n
		case k != Completed:
			c.Failed += n
			c.Done += n
		default:
			c.Done += n
		}
	}
	for i := range j.table.shards {
		for _, e := range j.table.shards[i].entries {
			if e == 0 {
				continue
			}
			if e.retry() {
				c.Unfinished++
			}
			if n := int64(e.finals()); n > 0 {
				add(e.kind(), n)
			}
		}
	}
	for _, finals := range j.mixed { // add has counted all of them as the last one
		last := finals[len(finals)-1]
		for _, k := range finals {
			add(last, -1)
			add(k, 1)
		}
	}
	return c
}

// Tasks returns the number of different task IDs.
func (j *Journal) Tasks() (n int64) {
	for i := range j.table.shards {
		n += int64(j.table.shards[i].used)
	}
	return n
}

// Has reports whether a task ID has an event.
func (j *Journal) Has(id string) bool {
	defer runtime.KeepAlive(j)
	return j.table.find([]byte(id)) != nil
}
