package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrUnreachable is the error of a run that fails because a provider sent no response for the
// duration Options.UnreachableTimeout.
var ErrUnreachable = errors.New("could not be reached")

// unreachableError returns an ErrUnreachable for a component, such as "the task source".
func unreachableError(component string, timeout time.Duration) error {
	return fmt.Errorf("%s %w for %v: check the network and the status page of the cloud provider, then start the worker again", component, ErrUnreachable, timeout)
}

// reachability records whether a provider responds. The zero value is ready to use.
type reachability struct {
	mu        sync.Mutex
	pending   int    // requests in flight
	failed    bool   // the last request ended without a response
	responses uint64 // total number of responses
	receiving bool   // Receive of the source is running
}

// observe calls request, which sends a request to the provider, and records whether the provider
// responded. If request returns an error, responded reports whether the error came from a response
// of the provider.
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

// check reports whether the run is waiting for the provider to respond: a request is in flight, or
// the last one ended without a response, or unreachable is true. unreachable states that the source
// has reported failing requests for tasks. check also returns the number of responses so far.
func (r *reachability) check(unreachable bool) (waiting bool, responses uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.receiving && !unreachable {
		r.failed = false // Receive runs without failures, so the provider responds again
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

// WatchSink returns a Sink that forwards to sink and observes whether sink's provider responds. The
// run fails if writes wait and the provider sends no response for the duration
// Options.UnreachableTimeout. Call WatchSink before From.
func (r *Run) WatchSink(sink Sink) Sink {
	s := &watchedSink{Sink: sink}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sinks = append(r.sinks, s)
	return s
}

// outage measures for how long a provider has not responded.
type outage struct {
	what        string
	reach       *reachability
	unreachable func() bool
	responses   uint64
	duration    time.Duration
}

// watchReach starts a goroutine that fails the run if a provider does not respond for
// Options.UnreachableTimeout. stop ends the goroutine.
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

// watchOutages returns an ErrUnreachable when an outage has lasted for timeout, or nil when quit
// is closed.
//
// watchOutages adds up the time between the ticks of a ticker. If this process was stopped between
// two ticks, that time is much longer than interval. watchOutages then counts only two intervals,
// because the process could not send requests while it was stopped.
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
				return unreachableError(s.what, timeout)
			}
		}
	}
}
