package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// UnreachableError is the error of a run whose provider answered nothing for
// Options.UnreachableTimeout.
type UnreachableError struct {
	// What did not answer, such as "the task source".
	What string
	For  time.Duration
}

// Error says what did not answer, and what to do.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s could not be reached for %v: check the network and the provider's status, then start the worker again", e.What, e.For)
}

// reach observes whether a provider answers. The zero value is ready.
type reach struct {
	mu        sync.Mutex
	pending   int    // requests under way
	failed    bool   // the last request ended without an answer
	answers   uint64 // in all
	receiving bool   // the source is being asked for tasks
}

// during makes one request. answered says which errors are answers of the provider.
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

// look returns whether requests wait for an answer, and how many have had one. away says
// that a request for tasks cannot be made.
func (r *reach) look(away bool) (waiting bool, answers uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.receiving && !away {
		r.failed = false // the provider is being asked, and is there
	}
	return away || r.pending > 0 || r.failed, r.answers
}

// watchedSink is a sink whose writes are observed.
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

// WatchSink returns sink with its writes counted as requests to a provider, for
// Options.UnreachableTimeout. Call it before From.
func (r *Run) WatchSink(sink Sink) Sink {
	s := &watchedSink{Sink: sink}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sinks = append(r.sinks, s)
	return s
}

// silence is for how long somebody has not answered.
type silence struct {
	what    string
	reach   *reach
	away    func() bool
	answers uint64
	lasts   time.Duration
}

// watchReach fails the run once a provider has answered nothing for
// Options.UnreachableTimeout, until what it returns is called.
func (r *Run) watchReach(source Source) (stop func()) {
	timeout := r.opts.UnreachableTimeout
	if timeout <= 0 {
		return func() {}
	}
	all := []*silence{{what: "the task source", reach: &r.reach, away: func() bool { return false }}}
	if p, ok := source.(Prober); ok {
		all[0].away = func() bool { now := time.Now(); return !p.Unanswered().Before(now) }
	}
	r.mu.Lock()
	for _, s := range r.sinks {
		all = append(all, &silence{what: "the event sink", reach: &s.reach, away: func() bool { return false }})
	}
	r.mu.Unlock()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		if err := recovered(func() error { return watchSilence(over, timeout, all) }); err != nil {
			r.Fail(err)
		}
	}()
	return func() { close(over); <-ended }
}

// watchSilence returns an error once one of all has been silent for timeout. It looks
// often, and counts no more than two such intervals at once: while this process was
// stopped nobody could answer.
func watchSilence(over <-chan struct{}, timeout time.Duration, all []*silence) error {
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
