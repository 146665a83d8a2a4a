package sourcetest

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
)

var (
	queue = Features{
		Ordered: true, Redelivers: true, CountsAttempts: true,
		ReleaseDelay: time.Second, LeaseDuration: 2 * time.Second, DetectsLostLease: true,
	}
	list = Features{Finite: true, Ordered: true}
)

func TestListPasses(t *testing.T) { Run(t, harness("", list)) }

// The suite accepts a correct source that makes its own tasks, and detects a fault in such a
// source.
func TestOwnTasks(t *testing.T) {
	own := func(f fault) Harness {
		h := harness(f, list)
		newList := h.New
		h.New, h.NewBroken = nil, nil
		h.NewOwn = func(t testing.TB, n int) (pipeline.Source, []pipeline.Task) {
			tasks := make([]pipeline.Task, n)
			for i := range tasks {
				tasks[i] = pipeline.Task{ID: fmt.Sprint("own-", i), Data: []byte("{}")}
			}
			return newList(t, tasks), tasks
		}
		return h
	}
	Run(t, own(""))
	h := own("loss").withDefaults()
	synctest.Test(t, func(t *testing.T) {
		if failures := record(t, find(t, "every task is delivered once", h), h); len(failures) == 0 {
			t.Error("a lost task was not detected")
		}
	})
}

// The test runs in a synctest bubble, in which waiting for a lease takes no time. It does not call
// Run, because Run cannot be used in a bubble.
func TestQueuePasses(t *testing.T) {
	for _, features := range []Features{queue, {}, {Redelivers: true}, {LeaseDuration: time.Minute}} {
		h := harness("", features).withDefaults()
		for _, c := range cases {
			if c.applies != nil && !c.applies(h) {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { c.check(t, h) })
			})
		}
	}
}

// A source may return its last tasks together with an error.
func TestErrorWithTasksPasses(t *testing.T) { Run(t, harness("error with tasks", list)) }

// Each case of the suite fails if the source has the fault that the case tests for.
func TestFaultsAreCaught(t *testing.T) {
	canFail := map[string]bool{}
	for _, tc := range []struct {
		fault    fault
		features Features
		caught   string // name of the case
		want     string
	}{
		{"loss", list, "every task is delivered once", "want a task"},
		{"loss", queue, "every task is delivered once", "want a task"},
		{"twice", list, "every task is delivered once", "want no task"},
		{"order", list, "every task is delivered once", `delivery 0 is task "task-024"`},
		{"limit", list, "at most limit at once", "Receive(1) returned 2"},
		{"read ahead", list, "no more tasks are received than requested", "received 40 tasks"},
		{"data", list, "data is kept byte for byte", `unsigned":18446744073709552000`},
		{"big", list, "big data", "65536 bytes"},
		{"unknown task", list, "no tasks", "unknown task"},
		{"unknown task", queue, "no tasks", "unknown task"},
		{"eof", list, "end of file is final", "no delivery and no error"},
		{"eof with tasks", list, "end of file is final", "must return io.EOF alone"},
		{"error", list, "an error is final", "want the same error again"},
		{"context", queue, "the end of the context ends Receive", "did not return"},
		{"lose on cancel", list, "an ended context loses no task", "was not delivered"},
		{"lose on cancel", queue, "an ended context loses no task", "was not delivered"},
		{"close unused", list, "close before any Receive", "broken"},
		{"close twice", list, "close twice", "broken"},
		{"close panics", list, "close twice", "panicked: close of closed channel"},
		{"close cancelled", queue, "close after a cancelled Receive", "broken"},
		{"close hangs", queue, "close after a cancelled Receive", "did not return"},
		{"close hangs", queue, "close with an ended context", "Close did not return"},
		{"goroutine", queue, "no goroutine is left", "found unexpected goroutines"},
		{"batch size", list, "optional interfaces", "BatchSize is 1000"},
		{"shared", list, "optional interfaces", "Features.Redelivers is not"},
		{"changing hints", queue, "optional interfaces", "and then"},
		{"unhealthy", queue, "optional interfaces", "no request has failed"},
		{"never idle", queue, "an idle source ends", "did not return"},
		{"idle early", queue, "an idle source ends", "before the idle time"},
		{"idle once", queue, "an idle source ends", "before the idle time"},
		{"idle context", queue, "an idle source ends", "after the end of its context"},
		{"idle goroutine", queue, "an idle source ends", "on another goroutine"},
		{"healthy", queue, "an unreachable provider is reported", "did not return the current time"},
		{"health hangs", queue, "an unreachable provider is reported", "LastFailure did not return"},
		{"unreachable error", queue, "an unreachable provider is reported", "want its context's error"},
		{"release", queue, "a released task is redelivered", "want a redelivery"},
		{"release", Features{Redelivers: true}, "a released task is redelivered", "want a redelivery"},
		{"attempt", queue, "a released task is redelivered", "with attempt 1, want 2"},
		{"delay", queue, "a release respects its delay", "want at least 1s"},
		{"ack", queue, "an acknowledged task is not redelivered", "want no task"},
		{"lease", queue, "an unsettled task is redelivered", "want a redelivery"},
		{"extend", queue, "extending keeps the task", "while its lease was extended"},
		{"extend early", queue, "extending keeps the task", "Extend(2s)"},
		{"extend late", queue, "extending keeps the task", "Extend(2s)"},
		{"moving expiry", queue, "extending keeps the task", "after Extend, want"},
		{"lost Extend", queue, "a lost lease is reported", "Extend of a lost lease returned <nil>"},
		{"lost Ack", queue, "a lost lease is reported", "Ack of a lost lease returned <nil>"},
		{"lost Release", queue, "a lost lease is reported", "Release of a lost lease returned <nil>"},
		{"Extend hangs", queue, "an ended context ends requests", "Extend did not return"},
		{"Ack hangs", queue, "an ended context ends requests", "Ack did not return"},
		{"Release hangs", queue, "an ended context ends requests", "Release did not return"},
		{"concurrent", queue, "settling concurrently", "redelivered"},
	} {
		canFail[tc.caught] = true
		t.Run(fmt.Sprintf("%s in %s", tc.fault, tc.caught), func(t *testing.T) {
			h := harness(tc.fault, tc.features).withDefaults()
			synctest.Test(t, func(t *testing.T) {
				failures := record(t, find(t, tc.caught, h), h)
				if len(failures) == 0 {
					t.Fatal("the case passed")
				}
				if !strings.Contains(strings.Join(failures, "\n"), tc.want) {
					t.Errorf("the case failed with\n%s\nwant %q in it", strings.Join(failures, "\n"), tc.want)
				}
			})
		})
	}
	for _, c := range cases {
		if !canFail[c.name] {
			t.Errorf("no fault is listed that the case %q detects", c.name)
		}
	}
}

func find(t *testing.T, name string, h Harness) testCase {
	t.Helper()
	for _, c := range cases {
		if c.name == name {
			if c.applies != nil && !c.applies(h) {
				t.Fatalf("case %q does not apply", name)
			}
			return c
		}
	}
	t.Fatalf("there is no case %q", name)
	return testCase{}
}

// record runs a case and returns its failures.
func record(t *testing.T, c testCase, h Harness) []string {
	t.Helper()
	return pipelinetest.Failures(t, func(tb testing.TB) { c.check(tb, h) })
}
