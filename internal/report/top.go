package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/ctworker/ctworker/internal/units"
)

// shownTop is the number of tasks in a list of the slowest or largest tasks.
const shownTop = 20

// A top keeps the attempts with the largest values.
type top struct {
	all []Attempt // sorted, largest first
	// by is the value of the smallest attempt in all, if all is full.
	by     []float64
	values func(*event) (float64, bool)
}

// add adds an attempt if its value is one of the largest.
func (t *top) add(e *event, host string) {
	v, ok := t.values(e)
	if !ok || len(t.all) == shownTop && v <= t.by[shownTop-1] {
		return
	}
	i, _ := slices.BinarySearchFunc(t.by, v, func(a, b float64) int {
		if a >= b { // an equal value that came first stays first
			return -1
		}
		return 1
	})
	if len(t.all) == shownTop {
		t.all, t.by = t.all[:shownTop-1], t.by[:shownTop-1]
	}
	t.all, t.by = slices.Insert(t.all, i, attemptOf(e, host)), slices.Insert(t.by, i, v)
}

func attemptOf(e *event, host string) Attempt {
	a := Attempt{
		TaskID: shortID(e.TaskID), Host: host, Outcome: e.Kind.String(), Retry: e.Retry, Attempt: max(e.Attempt, 1), Slot: int(e.slot),
		Seconds: unknown, CPUSeconds: e.cpu, MemoryBytes: e.memory, End: timeOf(e.time),
	}
	if e.elapsed >= 0 {
		a.Seconds = seconds(e.elapsed)
	}
	return a
}

// maxText is the length to which texts of events are cut, in bytes.
const maxText = 100

// shortID returns the beginning of an ID or of another text, in one line.
func shortID[T ~string | ~[]byte](id T) string {
	return visible(units.ShortID(string(id[:min(len(id), 2*maxText)])))
}

// visible returns text with control and formatting characters escaped, such as those that reverse the
// direction of the text that follows.
func visible(text string) string {
	hidden := func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }
	if strings.IndexFunc(text, hidden) < 0 {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	var b strings.Builder
	for _, r := range text {
		if hidden(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// compareAttempts orders attempts by the slot and the start.
func compareAttempts(a, b exactAttempt) int {
	return cmp.Or(cmp.Compare(a.worker, b.worker), cmp.Compare(a.slot, b.slot), cmp.Compare(a.start, b.start))
}
