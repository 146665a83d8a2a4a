package monitor

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/ctworker/ctworker/internal/fleet"
)

// View is how Draw shows a snapshot.
type View struct {
	// Width and Height are the size of the screen in columns and lines. 0 means that the size is
	// unknown; Draw then uses 80 columns and 24 lines.
	Width, Height int
	// Color permits colors and bold text.
	Color bool
	// Job is the name of the job, and Elapsed how long the monitor has been running.
	Job     string
	Elapsed time.Duration
	// Sort is the order of the workers.
	Sort Order
	// Filter selects the workers that contain this text. Editing states that the user is typing it.
	Filter  string
	Editing bool
	// Offset is the number of workers that are scrolled past.
	Offset int
	// Help shows the keys instead of the workers.
	Help bool
	// Message is the last line of the log.
	Message string
	// Hint explains how to set the number of tasks if it is unknown.
	Hint string
	// Printable escapes the characters of a text that a terminal would interpret.
	Printable func(string) string
}

// Order is an order of the workers.
type Order int

// The orders.
const (
	ByCondition Order = iota // those that need attention first
	ByName
	ByFailed // the most failures first
	ByRate   // the slowest first
	orders   // number of orders
)

// String returns the name of the order.
func (o Order) String() string {
	return [...]string{ByCondition: "condition", ByName: "name", ByFailed: "failures", ByRate: "rate"}[o]
}

// next returns the order after o.
func (o Order) next() Order { return (o + 1) % orders }

// selected returns the workers that match the filter, in the order of the view.
func (o *View) selected(v *fleet.Snapshot) []fleet.Worker {
	all := slices.Clone(v.Workers)
	if want := strings.ToLower(o.Filter); want != "" {
		all = slices.DeleteFunc(all, func(w fleet.Worker) bool {
			text := strings.Join([]string{w.Host, w.Instance, w.Zone, w.RunID, w.Condition.String(), version(&w)}, "\n")
			return !strings.Contains(strings.ToLower(text), want)
		})
	}
	slices.SortStableFunc(all, func(a, b fleet.Worker) int {
		switch o.Sort {
		case ByName:
			return cmp.Compare(a.Name(), b.Name())
		case ByFailed:
			return cmp.Compare(failed(&b), failed(&a))
		case ByRate:
			return cmp.Or(cmp.Compare(boolInt(a.Condition == fleet.Ended), boolInt(b.Condition == fleet.Ended)), cmp.Compare(rate(&a), rate(&b)))
		}
		return 0 // the snapshot has this order
	})
	return all
}

func failed(w *fleet.Worker) int64 {
	if w.Digest == nil {
		return -1
	}
	return w.Digest.NotCompleted()
}

func rate(w *fleet.Worker) float64 {
	if w.Digest == nil {
		return -1
	}
	return w.Digest.Rate
}

func version(w *fleet.Worker) string {
	if w.Digest == nil {
		return ""
	}
	return w.Digest.Version
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
