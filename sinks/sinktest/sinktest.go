package sinktest

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/pipeline"
)

// Harness creates the sinks to test. Only New is required.
type Harness struct {
	// New returns an empty sink and the function read, which returns all events that the sink has
	// stored, each in the form that Encode returns. read must not use the sink. The suite calls
	// read between Writes and after Close. New is called once per case. The suite closes the sink.
	// Use t.Cleanup to release other resources.
	New func(t testing.TB) (sink pipeline.Sink, read func() [][]byte)

	// Encode returns the form in which read returns an event. The forms of events of different
	// tasks must differ. Defaults to Event.AppendJSON. Set it for a sink that does not write JSON.
	Encode func(e *pipeline.Event) []byte

	// NewStalled returns a sink that cannot make progress, such as a pipe without a reader or a
	// server that does not respond. A Write of a few megabytes must block until its context ends.
	// Leave it nil if the sink cannot stall.
	NewStalled func(t testing.TB) pipeline.Sink

	// IgnoreGoroutines selects goroutines that may remain after Close, such as those of a
	// client's idle connections.
	IgnoreGoroutines []goleak.Option

	// Timeout is the maximum duration of a call that has no reason to wait. A long timeout slows
	// down only failing tests. Defaults to 10s.
	Timeout time.Duration

	Features Features
}

// Features describes the optional properties of a sink.
type Features struct {
	// Ordered means that read returns the events in the order in which they were written, within a
	// Write and across successive Writes.
	Ordered bool

	// MaxEvent is the maximum size of an event in bytes. Defaults to 5 MB. The suite tests no
	// larger events.
	MaxEvent int
}

const maxEventSize = 5_000_000

func (h Harness) withDefaults() Harness {
	if h.Timeout <= 0 {
		h.Timeout = 10 * time.Second
	}
	if h.Features.MaxEvent <= 0 {
		h.Features.MaxEvent = maxEventSize
	}
	return h
}

// Run runs each case that applies as a subtest, one after the other. Call it from a test that is
// not parallel, because the search for leaked goroutines would otherwise find the goroutines of
// other tests.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.New == nil {
		t.Fatal("sinktest: Harness.New is not set")
	}
	h = h.withDefaults()
	for _, c := range cases {
		if c.applies == nil || c.applies(h) {
			t.Run(c.name, func(t *testing.T) { c.check(t, h) })
		}
	}
}

// testCase is one case of the suite. It tests one requirement of the contract.
type testCase struct {
	name    string
	applies func(Harness) bool // nil means always
	run     func(*probe)
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
	{"events are written when Write returns", nil, eventsAreWrittenWhenWriteReturns},
	{"no events", nil, noEvents},
	{"a big event", nil, aBigEvent},
	{"order within a Write", ordered, orderWithinAWrite},
	{"writing concurrently", nil, writingConcurrently},
	{"events are not retained", nil, eventsAreNotRetained},
	{"an ended context", nil, anEndedContext},
	{"a context that ends during Write", stalls, aContextThatEndsMeanwhile},
	{"write after close", nil, writeAfterClose},
	{"close unused", nil, closeUnused},
	{"close twice", nil, closeTwice},
	{"close with an ended context", nil, closeWithAnEndedContext},
	{"withheld events", nil, withheldEvents},
	{"no goroutine is left", nil, noGoroutineIsLeft},
}

func ordered(h Harness) bool { return h.Features.Ordered }
func stalls(h Harness) bool  { return h.NewStalled != nil }
