package sinktest

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/pipeline"
)

// A Harness makes the sinks to be tested. Only New is required.
type Harness struct {
	// New returns a sink that has told nothing yet, and a function that reads
	// what it has told so far from where it tells it: each event as the JSON
	// of Event.AppendJSON. read is called between Writes and after Close. New
	// is called once a case. The suite closes the sink; what else is to be
	// cleaned up goes into t.Cleanup.
	New func(t testing.TB) (sink pipeline.Sink, read func() [][]byte)

	// NewStalled returns a sink that cannot make progress, such as a pipe that
	// nobody reads or a server that does not answer, so that a Write of a few
	// megabytes lasts until its context ends. nil: nothing can stall.
	NewStalled func(t testing.TB) pipeline.Sink

	// IgnoreGoroutines are goroutines that may outlive Close, such as those of
	// a client's idle connections.
	IgnoreGoroutines []goleak.Option

	// Patience is how long a call may take that has no reason to wait. It
	// bounds failures alone, so be generous. Default 10 s.
	Patience time.Duration

	Features Features
}

// Features say what a sink does beyond telling events.
type Features struct {
	// Ordered: read returns the events of one Write in their order, and those
	// of successive Writes one after the other. Without it they come in any
	// order, as from a queue.
	Ordered bool

	// MaxEvent is the size in bytes of the largest event that can be told.
	// Default 5 MB, which is also the most that is tried.
	MaxEvent int
}

const mostEvent = 5_000_000

func (h Harness) withDefaults() Harness {
	if h.Patience <= 0 {
		h.Patience = 10 * time.Second
	}
	if h.Features.MaxEvent <= 0 {
		h.Features.MaxEvent = mostEvent
	}
	return h
}

// Run runs every case that applies, each as a subtest, one after the other. Call
// it from a test that is not parallel: the search for goroutines that were left
// behind would find those of other tests.
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
	{"events are told when Write returns", nil, eventsAreToldWhenWriteReturns},
	{"no events", nil, noEvents},
	{"a big event", nil, aBigEvent},
	{"order within a Write", ordered, orderWithinAWrite},
	{"writing concurrently", nil, writingConcurrently},
	{"events are not kept", nil, eventsAreNotKept},
	{"an ended context", nil, anEndedContext},
	{"a context that ends meanwhile", stalls, aContextThatEndsMeanwhile},
	{"write after close", nil, writeAfterClose},
	{"close unused", nil, closeUnused},
	{"close twice", nil, closeTwice},
	{"no goroutine is left", nil, noGoroutineIsLeft},
}

func ordered(h Harness) bool { return h.Features.Ordered }
func stalls(h Harness) bool  { return h.NewStalled != nil }
