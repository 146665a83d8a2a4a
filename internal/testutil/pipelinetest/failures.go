package pipelinetest

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// Failures calls check with a testing.TB that records failures, and returns the failures. Fatal and
// Fatalf end check.
func Failures(t testing.TB, check func(testing.TB)) []string {
	t.Helper()
	r := &failureRecorder{TB: t}
	var wg sync.WaitGroup
	wg.Go(func() { check(r) })
	wg.Wait()
	return r.failures
}

// failureRecorder is a testing.TB that records failures, instead of failing the test that it belongs to.
type failureRecorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
}

func (r *failureRecorder) fail(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, text)
}

func (r *failureRecorder) Helper()                      {}
func (r *failureRecorder) Error(args ...any)            { r.fail(fmt.Sprint(args...)) }
func (r *failureRecorder) Errorf(f string, args ...any) { r.fail(fmt.Sprintf(f, args...)) }
func (r *failureRecorder) Fatal(args ...any)            { r.Error(args...); runtime.Goexit() }
func (r *failureRecorder) Fatalf(f string, args ...any) { r.Errorf(f, args...); runtime.Goexit() }

func (r *failureRecorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}
