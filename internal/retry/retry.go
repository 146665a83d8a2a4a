// Package retry calls a function again, with exponential backoff, while it fails with a
// transient error, such as an unreachable provider. It also has the table of transient status
// and error codes, converts panics in a provider's SDK into errors, and logs an outage in a
// few lines.
package retry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// A Class is the classification of an error: whether, and for how long, to retry.
type Class uint8

const (
	// Permanent errors are not retried.
	Permanent Class = iota
	// Transient errors are retried without a time limit.
	Transient
	// Suspect errors are retried for Options.SuspectTime. They may disappear within minutes;
	// if not, they need an operator. Examples are rejected credentials that may be renewed, a
	// corrupt response, and a panic in a provider's SDK.
	Suspect
)

// SuspectTime is the default of Options.SuspectTime.
const SuspectTime = 5 * time.Minute

// Options configures Do and AtStart. Only Classify is required.
type Options struct {
	// Classify returns the class of an error. It is not called for a panic, which is
	// Suspect.
	Classify func(error) Class
	// Action names the call in the log, such as "ReceiveMessage".
	Action string
	// Reporter logs the failures that are retried. Defaults to nil, which logs nothing.
	Reporter *Reporter
	// SuspectTime limits how long a call is retried while every attempt fails with a
	// Suspect error. Defaults to the constant SuspectTime.
	SuspectTime time.Duration
	// SlowAfter is the time without a response after which a call is reported as failing, while
	// it is still waited for. Defaults to 0, which disables it.
	SlowAfter time.Duration
}

// Transients returns Options that classify an error as Transient if transient reports true,
// and as Permanent otherwise.
func Transients(transient func(error) bool) Options {
	return Options{Classify: func(err error) Class {
		if transient(err) {
			return Transient
		}
		return Permanent
	}}
}

// Do calls do until it succeeds, returns an error that is not retried, or ctx is done. The
// pause between two calls grows to about ten seconds. A panic in do counts as an error; see
// Guard.
func Do(ctx context.Context, opts Options, do func() error) error {
	_, err := run(ctx, opts, 0, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// maxCallsAtStart is the maximum number of calls that AtStart makes: a user is waiting, and
// may have mistyped a name.
const maxCallsAtStart = 4

// AtStart is like Do, for calls that a command needs before it can start, such as looking up
// a queue's address. It gives up after a few seconds.
func AtStart[T any](ctx context.Context, opts Options, do func() (T, error)) (T, error) {
	return run(ctx, opts, maxCallsAtStart, do)
}

// run calls do at most rounds times; 0 means no limit.
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
				return out, fmt.Errorf("gave up after %d attempts in %v: %w", try+1, lasted.Round(time.Second), err)
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

// Pause waits before the next attempt, from about half a second to about ten seconds,
// growing with try. It returns false if ctx is done first.
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

// All calls wait for each of n operations that have been started. It calls do, concurrently,
// for those that failed, and returns the first error of do by index.
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
