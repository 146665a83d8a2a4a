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
	Delivered func() int

	// Parallel runs the cases that wait for leases and delays at the same time.
	// New, NewBlocking and NewBroken are then called concurrently. Handed and
	// the search for goroutines are unaffected: their cases run first, one after
	// the other.
	Parallel bool

	// IgnoreGoroutines are goroutines that may outlive Close, such as those of
	// a client's idle connections.
	IgnoreGoroutines []goleak.Option

	// Patience is how long a call may take that has no reason to wait, and how
	// long a task may take to come. It bounds failures alone, so be generous.
	// Default 10 s.
	Timeout time.Duration

	// Quiet is for how long nothing must come before the suite believes that
	// nothing will. A source that Ends says so itself. Default 100 ms.
	QuietPeriod time.Duration

	Features Features
}

// Features say what a source does beyond handing out tasks. The zero value is a
// queue that never ends, has no order, and delivers nothing twice.
type Features struct {
	// Ends: Receive returns io.EOF after the last task, as for a file. Without
	// it, Receive waits for ever, as for a queue.
	Finite bool

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
	DetectsLostLease bool

	// MaxData is the size in bytes of the largest data that a task may have.
	// Default 1 MiB, which is also the most that is tried.
	MaxData int
}

func (h Harness) withDefaults() Harness {
	if h.NewBlocking == nil && !h.Features.Finite {
		h.NewBlocking = h.New
	}
	if h.Timeout <= 0 {
		h.Timeout = 10 * time.Second
	}
	if h.QuietPeriod <= 0 {
		h.QuietPeriod = 100 * time.Millisecond
	}
	if h.Features.MaxData <= 0 {
		h.Features.MaxData = 1 << 20
	}
	return h
}

// Run runs every case that applies, each as a subtest, one after the other. Call
// it from a test that is not parallel: the search for goroutines that were left
// behind would find those of other tests. With Harness.Parallel, Run marks the
// test as parallel after that search; then the test must not call t.Setenv or
// t.Chdir.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.New == nil {
		t.Fatal("sourcetest: Harness.New is not set")
	}
	h = h.withDefaults()
	run := func(t *testing.T, alone bool) {
		for _, c := range cases {
			if c.alone != alone || c.applies != nil && !c.applies(h) {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				if h.Parallel && !alone {
					t.Parallel()
				}
				c.check(t, h)
			})
		}
	}
	run(t, true)
	if h.Parallel {
		t.Parallel()
	}
	run(t, false)
}

// A testCase is one promise of the contract.
type testCase struct {
	name    string
	applies func(Harness) bool // nil: always
	run     func(*probe)
	alone   bool // it observes what other cases would change
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
	{name: "every task comes once", run: everyTaskComesOnce},
	{name: "at most limit at once", run: atMostLimitAtOnce},
	{name: "no more is taken than was asked for", applies: hasHanded, run: noMoreIsTakenThanWasAskedFor, alone: true},
	{name: "data is kept byte for byte", run: dataIsKeptByteForByte},
	{name: "big data", run: bigData},
	{name: "no tasks", run: noTasks},

	{name: "end of file is final", applies: ends, run: endOfFileIsFinal},
	{name: "an error is final", applies: isBreakable, run: anErrorIsFinal},
	{name: "the end of the context ends Receive", applies: blocks, run: theEndOfTheContextEndsReceive},
	{name: "an ended context strands nothing", run: anEndedContextStrandsNothing},
	{name: "close before any Receive", run: closeBeforeAnyReceive},
	{name: "close twice", run: closeTwice},
	{name: "close after a cancelled Receive", run: closeAfterACancelledReceive},
	{name: "no goroutine is left", run: noGoroutineIsLeft, alone: true},

	{name: "a released task comes again", applies: redelivers, run: aReleasedTaskComesAgain},
	{name: "a release keeps its delay", applies: delays, run: aReleaseKeepsItsDelay},
	{name: "an acknowledged task does not come again", run: anAcknowledgedTaskDoesNotComeAgain},
	{name: "an unsettled task comes again", applies: leases, run: anUnsettledTaskComesAgain},
	{name: "extending keeps the task", applies: leases, run: extendingKeepsTheTask},
	{name: "a lost lease is reported", applies: reportsLost, run: aLostLeaseIsReported},
	{name: "settling concurrently", run: settlingConcurrently},
}

func hasHanded(h Harness) bool   { return h.Delivered != nil }
func ends(h Harness) bool        { return h.Features.Finite }
func isBreakable(h Harness) bool { return h.NewBroken != nil }
func blocks(h Harness) bool      { return h.NewBlocking != nil }
func redelivers(h Harness) bool  { return h.Features.Redelivers }
func delays(h Harness) bool      { return h.Features.Redelivers && h.Features.ReleaseDelay > 0 }
func leases(h Harness) bool      { return h.Features.LeaseDuration > 0 }
func reportsLost(h Harness) bool { return leases(h) && h.Features.DetectsLostLease }
