package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// UnreachableError is the error of a run whose provider has not responded to any request
// for Options.UnreachableTimeout.
type UnreachableError struct {
	// What is the unreachable component, such as "the task source".
	What string
	// For is Options.UnreachableTimeout.
	For time.Duration
}

// Error names the unreachable component and how to proceed.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s could not be reached for %v: check the network and the provider's status, then start the worker again", e.What, e.For)
}

// reachability records whether a provider responds. The zero value is ready to use.
type reachability struct {
	mu        sync.Mutex
	pending   int    // requests in flight
	failed    bool   // the last request ended without a response
	responses uint64 // total number of responses
	receiving bool   // Receive is running
}

// observe calls request, which sends a request to the provider. responded reports whether an error
// of request means that the provider has responded.
func (r *reachability) observe(responded func(error) bool, request func() error) error {
	r.mu.Lock()
	r.pending++
	r.mu.Unlock()
	err := request()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending--
	if r.failed = err != nil && !responded(err); !r.failed {
		r.responses++
	}
	return err
}

func (r *reachability) responded() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = false
	r.responses++
}

func (r *reachability) setReceiving(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.receiving = yes
}

// check reports whether a request waits for a response of the provider, and returns the number of
// responses so far. unreachable is true if the source reports that its requests for tasks fail.
func (r *reachability) check(unreachable bool) (waiting bool, responses uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.receiving && !unreachable {
		r.failed = false // Receive is running and reports no failure
	}
	return unreachable || r.pending > 0 || r.failed, r.responses
}

// watchedSink is a Sink that records whether its provider responds.
type watchedSink struct {
	Sink
	reach reachability
}

// Write implements Sink.
func (s *watchedSink) Write(ctx context.Context, events []Event) error {
	responded := func(err error) bool {
		return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	}
	return s.reach.observe(responded, func() error { return s.Sink.Write(ctx, events) })
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

// outage measures how long a provider has not responded.
type outage struct {
	what        string
	reach       *reachability
	unreachable func() bool
	responses   uint64
	duration    time.Duration
}

// watchReach fails the run if a provider does not respond for Options.UnreachableTimeout.
// Call stop to stop watching.
func (r *Run) watchReach(source Source) (stop func()) {
	timeout := r.opts.UnreachableTimeout
	if timeout <= 0 {
		return func() {}
	}
	all := []*outage{{what: "the task source", reach: &r.reach, unreachable: func() bool { return false }}}
	if p, ok := source.(HealthReporter); ok {
		all[0].unreachable = func() bool { now := time.Now(); return !p.LastFailure().Before(now) }
	}
	r.mu.Lock()
	for _, s := range r.sinks {
		all = append(all, &outage{what: "the event sink", reach: &s.reach, unreachable: func() bool { return false }})
	}
	r.mu.Unlock()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if err := recovered(func() error { return watchOutages(quit, timeout, all) }); err != nil {
			r.Fail(err)
		}
	}()
	return func() { close(quit); <-done }
}

// watchOutages returns an UnreachableError once one of the outages has lasted for timeout, or nil
// when quit is closed. It measures the time in ticks, and counts at most two intervals per tick.
// Time for which this process was stopped therefore does not count.
func watchOutages(quit <-chan struct{}, timeout time.Duration, all []*outage) error {
	const minInterval, maxInterval = 20 * time.Millisecond, 5 * time.Second
	interval := min(max(timeout/20, minInterval), maxInterval)
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	last := time.Now()
	for {
		select {
		case <-ticks.C:
		case <-quit:
			return nil
		}
		now := time.Now()
		elapsed := min(now.Sub(last), 2*interval)
		last = now
		for _, s := range all {
			waiting, responses := s.reach.check(s.unreachable())
			if !waiting || responses != s.responses {
				s.responses, s.duration = responses, 0
				continue
			}
			if s.duration += elapsed; s.duration >= timeout {
				return &UnreachableError{What: s.what, For: timeout}
			}
		}
	}
}
