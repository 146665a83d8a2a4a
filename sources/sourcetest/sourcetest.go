package sourcetest

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/pipeline"
)

// A Harness makes the sources to be tested. Only New is required; every other
// function adds the cases that need it.
type Harness struct {
	// New returns a source that will hand out tasks and nothing else. It is
	// called once a case, each time for a provider that holds nothing of an
	// earlier one. The suite closes the source; what else is to be cleaned up
	// goes into t.Cleanup.
	New func(t testing.TB, tasks []pipeline.Task) pipeline.Source

	// NewBlocking returns a source that hands out tasks and then waits for
	// more, which never come. Default: New, unless the source Ends; then
	// nothing that blocks is tested.
	NewBlocking func(t testing.TB, tasks []pipeline.Task) pipeline.Source

	// NewBroken returns a source that hands out tasks and then fails for good,
	// with an error that is not io.EOF.
	NewBroken func(t testing.TB, tasks []pipeline.Task) pipeline.Source

	// Handed returns how many tasks have left the provider for the source that
	// New returned last, whether Receive has returned them yet or not. Leave
	// it nil where reading ahead does no harm, as of a local file.
	Handed func() int

	// IgnoreGoroutines are goroutines that may outlive Close, such as those of
	// a client's idle connections.
	IgnoreGoroutines []goleak.Option

	// Patience is how long a call may take that has no reason to wait, and how
	// long a task may take to come. It bounds failures alone, so be generous.
	// Default 10 s.
	Patience time.Duration

	// Quiet is for how long nothing must come before the suite believes that
	// nothing will. A source that Ends says so itself. Default 100 ms.
	Quiet time.Duration

	Features Features
}

// Features say what a source does beyond handing out tasks. The zero value is a
// queue that never ends, has no order, and delivers nothing twice.
type Features struct {
	// Ends: Receive returns io.EOF after the last task, as for a file. Without
	// it, Receive waits for ever, as for a queue.
	Ends bool

	// Ordered: tasks come in the order in which New was given them.
	Ordered bool

	// Redelivers: a task that is released comes again, from the same source.
	Redelivers bool

	// CountsAttempts: a task that comes again has an attempt number one higher.
	CountsAttempts bool

	// ReleaseDelay is the shortest delay of a release that the provider keeps.
	// 0: it knows no delays.
	ReleaseDelay time.Duration

	// LeaseDuration is how long a task is ours without Extend; then it comes
	// again. Make it a second or two. 0: leases never end.
	LeaseDuration time.Duration

	// ReportsLost: where a task has come again after its lease, the earlier
	// delivery's Extend and Ack return an error that Is
	// pipeline.ErrLeaseLost.
	ReportsLost bool

	// MaxData is the size in bytes of the largest data that a task may have.
	// Default 1 MiB, which is also the most that is tried.
	MaxData int
}

func (h Harness) withDefaults() Harness {
	if h.NewBlocking == nil && !h.Features.Ends {
		h.NewBlocking = h.New
	}
	if h.Patience <= 0 {
		h.Patience = 10 * time.Second
	}
	if h.Quiet <= 0 {
		h.Quiet = 100 * time.Millisecond
	}
	if h.Features.MaxData <= 0 {
		h.Features.MaxData = 1 << 20
	}
	return h
}

// Run runs every case that applies, each as a subtest, one after the other. Call
// it from a test that is not parallel: the search for goroutines that were left
// behind would find those of other tests.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.New == nil {
		t.Fatal("sourcetest: Harness.New is not set")
	}
	h = h.withDefaults()
	for _, c := range cases {
		if c.applies == nil || c.applies(h) {
			t.Run(c.name, func(t *testing.T) { c.check(t, h) })
		}
	}
}

// A testCase is one promise of the contract.
type testCase struct {
	name    string
	applies func(Harness) bool // nil: always
	run     func(*probe)
}

// check runs the case against one harness. The tests of the suite call it with a
// testing.TB of their own.
func (c testCase) check(t testing.TB, h Harness) {
	t.Helper()
	p := &probe{TB: t, h: h}
	defer p.finish()
	c.run(p)
}

var cases = []testCase{
	{"every task comes once", nil, everyTaskComesOnce},
	{"at most limit at once", nil, atMostLimitAtOnce},
	{"no more is taken than was asked for", hasHanded, noMoreIsTakenThanWasAskedFor},
	{"data is kept byte for byte", nil, dataIsKeptByteForByte},
	{"big data", nil, bigData},
	{"no tasks", nil, noTasks},

	{"end of file is final", ends, endOfFileIsFinal},
	{"an error is final", isBreakable, anErrorIsFinal},
	{"the end of the context ends Receive", blocks, theEndOfTheContextEndsReceive},
	{"an ended context strands nothing", nil, anEndedContextStrandsNothing},
	{"close before any Receive", nil, closeBeforeAnyReceive},
	{"close twice", nil, closeTwice},
	{"close after a cancelled Receive", nil, closeAfterACancelledReceive},
	{"no goroutine is left", nil, noGoroutineIsLeft},

	{"a released task comes again", redelivers, aReleasedTaskComesAgain},
	{"a release keeps its delay", delays, aReleaseKeepsItsDelay},
	{"an acknowledged task does not come again", nil, anAcknowledgedTaskDoesNotComeAgain},
	{"an unsettled task comes again", leases, anUnsettledTaskComesAgain},
	{"extending keeps the task", leases, extendingKeepsTheTask},
	{"a lost lease is reported", reportsLost, aLostLeaseIsReported},
	{"settling concurrently", nil, settlingConcurrently},
}

func hasHanded(h Harness) bool   { return h.Handed != nil }
func ends(h Harness) bool        { return h.Features.Ends }
func isBreakable(h Harness) bool { return h.NewBroken != nil }
func blocks(h Harness) bool      { return h.NewBlocking != nil }
func redelivers(h Harness) bool  { return h.Features.Redelivers }
func delays(h Harness) bool      { return h.Features.Redelivers && h.Features.ReleaseDelay > 0 }
func leases(h Harness) bool      { return h.Features.LeaseDuration > 0 }
func reportsLost(h Harness) bool { return leases(h) && h.Features.ReportsLost }
