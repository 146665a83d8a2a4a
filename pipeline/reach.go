package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// UnreachableError is the error of a run whose provider answered no request for
// Options.UnreachableTimeout.
type UnreachableError struct {
	// What is the unreachable party, such as "the task source".
	What string
	// For is the timeout.
	For time.Duration
}

// Error returns what was unreachable and what to do about it.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s could not be reached for %v: check the network and the provider's status, then start the worker again", e.What, e.For)
}

// reach observes whether a provider responds. The zero value is ready to use.
type reach struct {
	mu        sync.Mutex
	pending   int    // requests under way
	failed    bool   // the last request ended without a response
	answers   uint64 // total number of responses
	receiving bool   // a call of Receive is under way
}

// during calls request. answered reports whether an error is a response of the provider.
func (r *reach) during(answered func(error) bool, request func() error) error {
	r.mu.Lock()
	r.pending++
	r.mu.Unlock()
	err := request()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending--
	if r.failed = err != nil && !answered(err); !r.failed {
		r.answers++
	}
	return err
}

func (r *reach) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = false
	r.answers++
}

func (r *reach) setReceiving(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.receiving = yes
}

// look reports whether the provider owes a response, and returns the number of responses so
// far. away means that the source reports requests for tasks as failing.
func (r *reach) look(away bool) (waiting bool, answers uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.receiving && !away {
		r.failed = false // Receive is under way and reports no failure
	}
	return away || r.pending > 0 || r.failed, r.answers
}

// watchedSink is a Sink that observes whether its provider responds.
type watchedSink struct {
	Sink
	reach reach
}

// Write implements Sink.
func (s *watchedSink) Write(ctx context.Context, events []Event) error {
	answered := func(err error) bool {
		return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	}
	return s.reach.during(answered, func() error { return s.Sink.Write(ctx, events) })
}

// WatchSink returns a Sink that writes to sink and counts each write as a request to a
// provider, for Options.UnreachableTimeout. Call it before From.
func (r *Run) WatchSink(sink Sink) Sink {
	s := &watchedSink{Sink: sink}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sinks = append(r.sinks, s)
	return s
}

// silence measures for how long a provider has not responded.
type outage struct {
	what    string
	reach   *reach
	away    func() bool
	answers uint64
	lasts   time.Duration
}

// watchReach fails the run if a provider answers no request for Options.UnreachableTimeout.
// It stops watching when stop is called.
func (r *Run) watchReach(source Source) (stop func()) {
	timeout := r.opts.UnreachableTimeout
	if timeout <= 0 {
		return func() {}
	}
	all := []*outage{{what: "the task source", reach: &r.reach, away: func() bool { return false }}}
	if p, ok := source.(HealthReporter); ok {
		all[0].away = func() bool { now := time.Now(); return !p.LastFailure().Before(now) }
	}
	r.mu.Lock()
	for _, s := range r.sinks {
		all = append(all, &outage{what: "the event sink", reach: &s.reach, away: func() bool { return false }})
	}
	r.mu.Unlock()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		if err := recovered(func() error { return watchOutages(over, timeout, all) }); err != nil {
			r.Fail(err)
		}
	}()
	return func() { close(over); <-ended }
}

// watchSilence returns an UnreachableError once one of all has been silent for timeout, or nil
// when over is closed. One tick counts for at most two intervals, so that time in which this
// process was stopped is not held against the provider.
func watchOutages(over <-chan struct{}, timeout time.Duration, all []*outage) error {
	const often, seldom = 20 * time.Millisecond, 5 * time.Second
	every := min(max(timeout/20, often), seldom)
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	last := time.Now()
	for {
		select {
		case <-ticks.C:
		case <-over:
			return nil
		}
		now := time.Now()
		passed := min(now.Sub(last), 2*every)
		last = now
		for _, s := range all {
			waiting, answers := s.reach.look(s.away())
			if !waiting || answers != s.answers {
				s.answers, s.lasts = answers, 0
				continue
			}
			if s.lasts += passed; s.lasts >= timeout {
				return &UnreachableError{What: s.what, For: timeout}
			}
		}
	}
}
