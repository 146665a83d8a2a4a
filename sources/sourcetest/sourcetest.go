package sourcetest

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/pipeline"
)

// Harness creates the sources to test. Either New or NewOwn is required. Each other function
// enables further cases.
type Harness struct {
	// New returns a source that delivers exactly the given tasks. It is called once per case, each
	// time with an empty provider. The suite closes the source. Use t.Cleanup to release other
	// resources.
	New func(t testing.TB, tasks []pipeline.Task) pipeline.Source

	// NewOwn replaces New for a source that makes its own tasks, such as a source that generates
	// numbers or lists a directory. It returns a source that makes exactly n tasks, and a list of
	// these tasks in order. Cases that need tasks with particular data are omitted.
	NewOwn func(t testing.TB, n int) (source pipeline.Source, tasks []pipeline.Task)

	// NewBlocking returns a source that delivers the tasks, and then blocks because there are no
	// more. Defaults to New. If Features.Finite is set, it defaults to nil, and the cases that
	// block are omitted.
	NewBlocking func(t testing.TB, tasks []pipeline.Task) pipeline.Source

	// NewBroken returns a source that delivers the tasks, and then fails permanently with an
	// error that is not io.EOF.
	NewBroken func(t testing.TB, tasks []pipeline.Task) pipeline.Source

	// NewUnreachable returns a source whose provider does not respond, or responds to each request
	// with a transient error. Set it if the source implements pipeline.HealthReporter.
	NewUnreachable func(t testing.TB) pipeline.Source

	// Delivered returns the number of tasks that the provider has delivered to the source that New
	// returned last. It includes tasks that Receive has not returned yet. Leave it nil if reading
	// ahead is harmless, for example in a local file.
	Delivered func() int

	// Parallel means that the cases that wait for leases and delays run in parallel. The functions
	// that create sources are then called concurrently. The cases that use Delivered or search for
	// leaked goroutines run first, one after the other.
	Parallel bool

	// IgnoreGoroutines selects goroutines that may remain after Close, such as those of a
	// client's idle connections.
	IgnoreGoroutines []goleak.Option

	// Timeout is the maximum duration of a call that has no reason to wait, and the maximum time
	// until a task is delivered. A long timeout slows down only failing tests. Defaults to 10s.
	Timeout time.Duration

	// If the source delivers nothing for QuietPeriod, the suite concludes that no more tasks are
	// available. QuietPeriod is not used if Features.Finite is set. Defaults to 100ms.
	QuietPeriod time.Duration

	Features Features
}

// Features describes the optional properties of a source. The zero value describes a queue that is
// never exhausted, has no order, and never redelivers a task.
type Features struct {
	// Finite means that Receive returns io.EOF after the last task, as for a file. Otherwise,
	// Receive waits for more tasks, as for a queue.
	Finite bool

	// Ordered means that tasks are delivered in the order in which they were passed to New.
	Ordered bool

	// Redelivers means that the same source redelivers a released task.
	Redelivers bool

	// CountsAttempts means that each redelivery increments the attempt number.
	CountsAttempts bool

	// ReleaseDelay is the shortest delay that the provider supports for a release. It is 0 if the
	// provider supports no delay.
	ReleaseDelay time.Duration

	// LeaseDuration is the time after which a task is redelivered unless its lease is extended. It
	// is 0 if leases never expire. Use one or two seconds, because several cases wait for this
	// time.
	LeaseDuration time.Duration

	// DetectsLostLease means that the provider rejects requests for an expired lease after the task
	// has been redelivered. The methods of the lease then return an error that wraps
	// pipeline.ErrLeaseLost.
	DetectsLostLease bool

	// MaxData is the maximum size of a task's data in bytes. Defaults to 1 MiB. The suite tests no
	// larger data.
	MaxData int
}

func (h Harness) withDefaults() Harness {
	if h.NewBlocking == nil && !h.Features.Finite && h.New != nil {
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

// Run runs each case that applies as a subtest, one after the other. Call it from a test that is
// not parallel, because the search for leaked goroutines would otherwise find the goroutines of
// other tests.
//
// If Harness.Parallel is set, Run calls t.Parallel after the search for goroutines, so the test
// must not call t.Setenv or t.Chdir.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if (h.New == nil) == (h.NewOwn == nil) {
		t.Fatal("sourcetest: set either Harness.New or Harness.NewOwn")
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

// testCase is one case of the suite. It tests one requirement of the contract.
type testCase struct {
	name    string
	applies func(Harness) bool // nil means always
	run     func(*probe)
	alone   bool // must not run in parallel with other cases
}

// check runs the case with a harness. The suite's own tests pass a testing.TB that records
// failures.
func (c testCase) check(t testing.TB, h Harness) {
	t.Helper()
	p := &probe{TB: t, h: h}
	defer p.finish()
	c.run(p)
}

var cases = []testCase{
	{name: "every task is delivered once", run: everyTaskIsDeliveredOnce},
	{name: "at most limit at once", run: atMostLimitAtOnce},
	{name: "no more tasks are received than requested", applies: countsDelivered, run: receivesNoMoreThanRequested, alone: true},
	{name: "data is kept byte for byte", applies: choosesTasks, run: dataIsKeptByteForByte},
	{name: "big data", applies: choosesTasks, run: bigData},
	{name: "no tasks", run: noTasks},

	{name: "end of file is final", applies: isFinite, run: endOfFileIsFinal},
	{name: "an error is final", applies: isBreakable, run: anErrorIsFinal},
	{name: "the end of the context ends Receive", applies: blocks, run: theEndOfTheContextEndsReceive},
	{name: "an ended context loses no task", run: anEndedContextLosesNoTask},
	{name: "close before any Receive", run: closeBeforeAnyReceive},
	{name: "close twice", run: closeTwice},
	{name: "close after a cancelled Receive", run: closeAfterACancelledReceive},
	{name: "close with an ended context", run: closeWithAnEndedContext},
	{name: "no goroutine is left", run: noGoroutineIsLeft, alone: true},
	{name: "optional interfaces", run: optionalInterfaces},
	{name: "an idle source ends", applies: blocks, run: anIdleSourceEnds},
	{name: "an unreachable provider is reported", applies: canBeUnreachable, run: anUnreachableProviderIsReported},

	{name: "a released task is redelivered", applies: redelivers, run: aReleasedTaskIsRedelivered},
	{name: "a release respects its delay", applies: delays, run: aReleaseKeepsItsDelay},
	{name: "an acknowledged task is not redelivered", run: anAcknowledgedTaskIsNotRedelivered},
	{name: "an unsettled task is redelivered", applies: leases, run: anUnsettledTaskIsRedelivered},
	{name: "extending keeps the task", applies: leases, run: extendingKeepsTheTask},
	{name: "a lost lease is reported", applies: detectsLostLease, run: aLostLeaseIsReported},
	{name: "settling concurrently", run: settlingConcurrently},
	{name: "an ended context ends requests", applies: hasLease, run: anEndedContextEndsRequests},
}

func choosesTasks(h Harness) bool     { return h.New != nil }
func countsDelivered(h Harness) bool  { return h.Delivered != nil }
func isFinite(h Harness) bool         { return h.Features.Finite }
func isBreakable(h Harness) bool      { return h.NewBroken != nil }
func blocks(h Harness) bool           { return h.NewBlocking != nil }
func canBeUnreachable(h Harness) bool { return h.NewUnreachable != nil }
func hasLease(h Harness) bool         { return leases(h) || redelivers(h) }
func redelivers(h Harness) bool       { return h.Features.Redelivers }
func delays(h Harness) bool           { return h.Features.Redelivers && h.Features.ReleaseDelay > 0 }
func leases(h Harness) bool           { return h.Features.LeaseDuration > 0 }
func detectsLostLease(h Harness) bool { return leases(h) && h.Features.DetectsLostLease }
