package fleet

import (
	"cmp"
	"regexp"
	"slices"

	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/outcome"
)

const (
	// maxReasons limits the number of different reasons that are counted.
	maxReasons = 500
	// maxFailedTasks is the number of failed tasks that are kept, for the summary.
	maxFailedTasks = 10
)

// OtherReasons is the reason of failures that are not counted separately because there are too many
// different reasons.
const OtherReasons = "other reasons"

// Failure is a reason for which tasks failed.
type Failure struct {
	Kind journal.Kind
	// Reason is the message of the failure. Numbers are replaced by an ellipsis.
	Reason string
	Count  int64
}

// FailedTask is a task whose latest outcome is a failure.
type FailedTask struct {
	ID, Reason string
	Kind       journal.Kind
}

// failures counts failures by reason.
type failures struct {
	counts map[Failure]int64 // by Failure, whose Count is 0
	first  []FailedTask
}

var numbers = regexp.MustCompile(`[0-9]+`)

// add counts the failure of a task.
func (x *failures) add(id string, kind journal.Kind, f *fields) {
	as := map[journal.Kind]outcome.Kind{journal.Exception: outcome.Exception, journal.TimedOut: outcome.TimedOut, journal.Exited: outcome.Exited}[kind]
	reason := outcome.Reason(as, string(f.Exception), int(f.ExitCode), string(f.StderrLine))
	head := ""
	if kind == journal.Exited { // the exit code is not replaced
		head = outcome.Reason(as, "", int(f.ExitCode), "")
	}
	key := Failure{Kind: kind, Reason: head + numbers.ReplaceAllString(reason[len(head):], "…")}
	if _, known := x.counts[key]; !known && len(x.counts) >= maxReasons {
		key.Reason = OtherReasons
	}
	x.counts[key]++
	if len(x.first) < maxFailedTasks {
		x.first = append(x.first, FailedTask{ID: clip(text(id), maxName), Kind: kind, Reason: reason})
	}
}

// recovered removes a task that has completed after all.
func (x *failures) recovered(id string) {
	x.first = slices.DeleteFunc(x.first, func(t FailedTask) bool { return t.ID == clip(text(id), maxName) })
}

// list returns the failures, the most frequent first.
func (x *failures) list() []Failure {
	all := make([]Failure, 0, len(x.counts))
	for f, n := range x.counts {
		f.Count = n
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}
