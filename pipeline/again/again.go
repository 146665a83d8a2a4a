// Package again calls a function again, with exponential backoff, while it fails with an
// error that a later call may not meet, such as a request to a provider that cannot be
// reached. It has the one table of statuses and codes that are transient, turns panics in
// a provider's SDK into errors, and reports outages in few log lines.
package again

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// A Class says whether calling again may help after an error.
type Class uint8

const (
	// Permanent says that every other call would meet the same error.
	Permanent Class = iota
	// Transient says that the next call may succeed, however long this has lasted.
	Transient
	// Suspect says that the next call may succeed, but an error that lasts for minutes will not
	// go away by itself: credentials that were refused and may be renewed, an answer that
	// is damaged, a panic in a provider's SDK.
	Suspect
)

// SuspectTime is for how long a call that fails with Suspect errors is repeated by default.
const SuspectTime = 5 * time.Minute

// Options say what is called again, and who is informed. Only Classify is required.
type Options struct {
	// Classify says whether a call may be repeated after the error. A panic is Suspect
	// without being asked about.
	Classify func(error) Class
	// Action names the call in the log, such as "ReceiveMessage".
	Action string
	// Reporter logs what fails and is tried again. Default: nothing is logged.
	Reporter *Reporter
	// SuspectTime is for how long a call is repeated that fails with Suspect errors alone.
	// Default SuspectTime.
	SuspectTime time.Duration
	// Late is after how long without an answer a call is logged as failing. Default 0:
	// never.
	Late time.Duration
}

// Transients are options under which errors are transient, or else permanent.
func Transients(transient func(error) bool) Options {
	return Options{Classify: func(err error) Class {
		if transient(err) {
			return Transient
		}
		return Permanent
	}}
}

// Do calls do until it succeeds, or fails in a way that another call would only repeat, or
// ctx ends. The pause between two calls grows to about ten seconds. A panic in do is an
// error; see Guard.
func Do(ctx context.Context, opts Options, do func() error) error {
	_, err := run(ctx, opts, 0, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// roundsAtStart is how often something is tried that has to be known before anything
// else, such as a queue's address: a user waits for it, and may have mistyped it.
const roundsAtStart = 4

// AtStart is Do for what a command needs first: it tries for some seconds only.
func AtStart[T any](ctx context.Context, opts Options, do func() (T, error)) (T, error) {
	return run(ctx, opts, roundsAtStart, do)
}

// run calls do up to rounds times; 0 is without end.
func run[T any](ctx context.Context, opts Options, rounds int, do func() (T, error)) (out T, err error) {
	attempt := opts.Reporter.Begin(opts.Action)
	defer func() { attempt.End(err) }()
	var suspectSince time.Time
	for try := 0; ; try++ {
		answered := attempt.Late(opts.Late)
		err = Guard(func() (err error) { out, err = do(); return err })
		answered()
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

// Pause waits before another try: from about half a second to about ten, longer each
// time. It reports false if ctx ends first.
func Pause(ctx context.Context, try int) bool {
	most := min(time.Second<<min(try, 10), 10*time.Second)
	timer := time.NewTimer(most/2 + rand.N(most/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// All waits for n things that have been begun, and calls do for each that has failed,
// for all of those at the same time. It returns the first error that this comes to.
func All(n int, wait, do func(i int) error) error {
	var more sync.WaitGroup
	errs := map[int]*error{}
	for i := range n {
		if wait(i) == nil {
			continue
		}
		err := new(error)
		errs[i] = err
		more.Go(func() { *err = do(i) })
	}
	more.Wait()
	for i := range n {
		if err := errs[i]; err != nil && *err != nil {
			return *err
		}
	}
	return nil
}
