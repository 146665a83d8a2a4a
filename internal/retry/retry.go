// Package retry calls a function repeatedly, with exponential backoff, while the function fails
// with a transient error. For example, a provider may be unreachable. The package also contains the
// tables of transient status and error codes. It converts panics in a provider's SDK to errors, and
// logs an outage in a few lines.
package retry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// A Class states whether to retry after an error, and for how long.
type Class uint8

const (
	// Permanent errors are not retried.
	Permanent Class = iota
	// Transient errors are retried without a time limit.
	Transient
	// Suspect errors are retried for Options.SuspectTime. They may disappear within minutes, or may
	// persist until an operator acts. Examples are rejected credentials (they may be renewed), a
	// corrupt response, and a panic in a provider's SDK.
	Suspect
)

// SuspectTime is the default of Options.SuspectTime.
const SuspectTime = 5 * time.Minute

// Options configures Do and AtStart. Only Classify is required.
type Options struct {
	// Classify returns the class of an error. It is not called for a panic, which is always
	// Suspect.
	Classify func(error) Class
	// Action is the name of the call in the log, such as "ReceiveMessage".
	Action string
	// Reporter logs the failures after which the call is retried. Defaults to nil, which logs
	// nothing.
	Reporter *Reporter
	// SuspectTime limits how long a call is retried while all attempts fail with a Suspect error.
	// Defaults to the constant SuspectTime.
	SuspectTime time.Duration
	// SlowAfter is the time after which a call without a response is reported as failed. The call
	// continues nevertheless. Defaults to 0, which disables the report.
	SlowAfter time.Duration
}

// Transients returns Options that classify an error as Transient if the function transient returns
// true for it, and as Permanent otherwise.
func Transients(transient func(error) bool) Options {
	return Options{Classify: func(err error) Class {
		if transient(err) {
			return Transient
		}
		return Permanent
	}}
}

// Do calls do until do succeeds or returns an error that is not retried, or until ctx is done. The
// pause between two calls grows from less than a second to about ten seconds. A panic in do counts
// as an error; see Guard.
func Do(ctx context.Context, opts Options, do func() error) error {
	_, err := run(ctx, opts, 0, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// maxCallsAtStart is the maximum number of calls that AtStart makes. It is small because a user
// waits for the command to start, and may have mistyped a name.
const maxCallsAtStart = 4

// AtStart is like Do, but gives up after a few seconds. Use it for requests that must succeed
// before a command can start, such as a request for the URL of a queue.
func AtStart[T any](ctx context.Context, opts Options, do func() (T, error)) (T, error) {
	return run(ctx, opts, maxCallsAtStart, do)
}

// run calls do at most rounds times. If rounds is 0, the number of calls is not limited.
func run[T any](ctx context.Context, opts Options, rounds int, do func() (T, error)) (out T, err error) {
	attempt := opts.Reporter.Begin(opts.Action)
	defer func() { attempt.End(err) }()
	var suspectSince time.Time
	for try := 0; ; try++ {
		stopTimer := attempt.ReportIfSlow(opts.SlowAfter)
		err = Guard(func() (err error) { out, err = do(); return err })
		stopTimer()
		if err == nil || ctx.Err() != nil || try+1 == rounds {
			return out, err
		}
		switch opts.classify(err) {
		case Permanent:
			return out, err
		case Transient:
			suspectSince = time.Time{}
		case Suspect:
			if suspectSince.IsZero() {
				suspectSince = time.Now()
			}
			if lasted := time.Since(suspectSince); lasted >= opts.suspectTime() {
				return out, fmt.Errorf("gave up retrying after %d attempts in %v: %w", try+1, lasted.Round(time.Second), err)
			}
		}
		attempt.Failed(err)
		if !Pause(ctx, try) {
			return out, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

func (o Options) classify(err error) Class {
	if IsPanic(err) {
		return Suspect
	}
	return o.Classify(err)
}

func (o Options) suspectTime() time.Duration {
	if o.SuspectTime > 0 {
		return o.SuspectTime
	}
	return SuspectTime
}

// Pause waits before the next attempt. The pause grows with try, from less than a second to about
// ten seconds. Pause returns false if ctx is done first.
func Pause(ctx context.Context, try int) bool {
	maxPause := min(time.Second<<min(try, 10), 10*time.Second)
	timer := time.NewTimer(maxPause/2 + rand.N(maxPause/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// All waits for n operations that the caller has started: it calls wait(i) for each operation i. If
// wait(i) returns an error, All repeats the operation by calling do(i). The calls of do are
// concurrent. All returns the first error of do, in the order of i.
func All(n int, wait, do func(i int) error) error {
	var retries sync.WaitGroup
	errs := map[int]*error{}
	for i := range n {
		if wait(i) == nil {
			continue
		}
		err := new(error)
		errs[i] = err
		retries.Go(func() { *err = Guard(func() error { return do(i) }) })
	}
	retries.Wait()
	for i := range n {
		if err := errs[i]; err != nil && *err != nil {
			return *err
		}
	}
	return nil
}
