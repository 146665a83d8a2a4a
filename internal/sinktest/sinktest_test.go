package sinktest

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

func TestFakePasses(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		t.Run(fmt.Sprintf("ordered=%v", ordered), func(t *testing.T) { Run(t, harness("", ordered)) })
	}
}

// A sink that reorders events passes if Features.Ordered is false.
func TestOrderIsAFeature(t *testing.T) { Run(t, harness("order", false)) }

// Every case detects the fault that it exists for.
func TestFaultsAreCaught(t *testing.T) {
	for _, tc := range []struct {
		fault  fault
		caught string // name of the case
		want   string
	}{
		{"late", "events are written when Write returns", "event was not stored"},
		{"twice", "events are written when Write returns", "stored twice"},
		{"glue", "events are written when Write returns", "is not valid JSON"},
		{"empty", "no events", "differs from what was written: {}"},
		{"big", "a big event", "is not valid JSON"},
		{"order", "order within a Write", "event 0 is"},
		{"mix", "writing concurrently", "is not valid JSON"},
		{"lose", "writing concurrently", "event "},
		{"keep", "events are not retained", "stored"},
		{"ended", "an ended context", "Write: broken"},
		{"error", "an ended context", "want its context's error"},
		{"stall", "a context that ends during Write", "Write did not return"},
		{"open", "write after close", "returned no error"},
		{"close unused", "close unused", "broken"},
		{"close twice", "close twice", "broken"},
		{"close panics", "close twice", "panicked: close of closed channel"},
		{"close hangs", "close unused", "Close did not return"},
		{"goroutine", "no goroutine is left", "found unexpected goroutines"},
	} {
		t.Run(fmt.Sprintf("%s in %s", tc.fault, tc.caught), func(t *testing.T) {
			h := harness(tc.fault, true).withDefaults()
			synctest.Test(t, func(t *testing.T) {
				failures := strings.Join(record(t, find(t, tc.caught), h), "\n")
				if failures == "" {
					t.Fatal("the case passed")
				}
				if !strings.Contains(failures, tc.want) {
					t.Errorf("the case failed with\n%s\nwant %q in it", failures, tc.want)
				}
			})
		})
	}
}

func find(t *testing.T, name string) testCase {
	t.Helper()
	for _, c := range cases {
		if c.name == name {
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

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

func (r *recorder) Helper()                      {}
func (r *recorder) Error(args ...any)            { r.fail(fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any) { r.fail(fmt.Sprintf(f, args...)) }
func (r *recorder) Fatal(args ...any)            { r.Error(args...); runtime.Goexit() }
func (r *recorder) Fatalf(f string, args ...any) { r.Errorf(f, args...); runtime.Goexit() }
