package sourcetest

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	queue = Features{
		Ordered: true, Redelivers: true, CountsAttempts: true,
		ReleaseDelay: time.Second, LeaseDuration: 2 * time.Second, DetectsLostLease: true,
	}
	list = Features{Finite: true, Ordered: true}
)

func TestListPasses(t *testing.T) { Run(t, harness("", list)) }

// The queue is tested in a bubble, where a lease costs no time; Run cannot be.
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

// Every case catches what it is there for.
func TestFaultsAreCaught(t *testing.T) {
	for _, tc := range []struct {
		fault    fault
		features Features
		caught   string // the case
		says     string
	}{
		{"loss", list, "every task comes once", "where a task was to come"},
		{"loss", queue, "every task comes once", "where a task was to come"},
		{"twice", list, "every task comes once", "nothing was to come"},
		{"order", list, "every task comes once", `delivery 0 is task "task-024"`},
		{"limit", list, "at most limit at once", "Receive(1) returned 2"},
		{"read ahead", list, "no more is taken than was asked for", "40 tasks were taken"},
		{"data", list, "data is kept byte for byte", `unsigned":18446744073709552000`},
		{"big", list, "big data", "65536 bytes"},
		{"made up", list, "no tasks", "a task came that there is not"},
		{"made up", queue, "no tasks", "a task came that there is not"},
		{"eof", list, "end of file is final", "no delivery and no error"},
		{"eof with tasks", list, "end of file is final", "it comes alone"},
		{"error", list, "an error is final", "it was to stay"},
		{"context", queue, "the end of the context ends Receive", "had not returned"},
		{"strand", list, "an ended context strands nothing", "did not come"},
		{"strand", queue, "an ended context strands nothing", "did not come"},
		{"close unused", list, "close before any Receive", "broken"},
		{"close twice", list, "close twice", "broken"},
		{"close panics", list, "close twice", "panicked: close of closed channel"},
		{"close cancelled", queue, "close after a cancelled Receive", "broken"},
		{"close hangs", queue, "close after a cancelled Receive", "had not returned"},
		{"goroutine", queue, "no goroutine is left", "found unexpected goroutines"},
		{"release", queue, "a released task comes again", "was to come again"},
		{"release", Features{Redelivers: true}, "a released task comes again", "was to come again"},
		{"attempt", queue, "a released task comes again", "at attempt 1, want 2"},
		{"delay", queue, "a release keeps its delay", "want 1s at least"},
		{"ack", queue, "an acknowledged task does not come again", "nothing was to come"},
		{"lease", queue, "an unsettled task comes again", "was to come again"},
		{"extend", queue, "extending keeps the task", "while its lease was extended"},
		{"concurrent", queue, "settling concurrently", "came"},
	} {
		t.Run(fmt.Sprintf("%s in %s", tc.fault, tc.caught), func(t *testing.T) {
			h := harness(tc.fault, tc.features).withDefaults()
			synctest.Test(t, func(t *testing.T) {
				said := record(t, find(t, tc.caught, h), h)
				if len(said) == 0 {
					t.Fatal("it passed")
				}
				if !strings.Contains(strings.Join(said, "\n"), tc.says) {
					t.Errorf("it failed with\n%s\nwant %q in it", strings.Join(said, "\n"), tc.says)
				}
			})
		})
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

// record runs a case and returns what it failed with.
func record(t *testing.T, c testCase, h Harness) []string {
	t.Helper()
	r := &recorder{TB: t}
	var wg sync.WaitGroup
	wg.Go(func() { c.check(r, h) })
	wg.Wait()
	return r.failures
}

// recorder is a testing.TB whose failures are its own.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
}

func (r *recorder) fail(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, text)
}

func (r *recorder) Helper()                      {}
func (r *recorder) Error(args ...any)            { r.fail(fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any) { r.fail(fmt.Sprintf(f, args...)) }
func (r *recorder) Fatal(args ...any)            { r.Error(args...); runtime.Goexit() }
func (r *recorder) Fatalf(f string, args ...any) { r.Errorf(f, args...); runtime.Goexit() }

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}
