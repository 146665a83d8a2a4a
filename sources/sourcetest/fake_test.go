package sourcetest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// fault is one way in which a fake breaks the contract.
type fault string

// provider is an in-memory queue with leases, or a finite list.
type provider struct {
	fault    fault
	features Features
	broken   error // returned after the last task, instead of io.EOF
	silent   bool  // does not respond
	testDone chan struct{}

	mu        sync.Mutex
	entries   []*entry
	changed   chan struct{}
	delivered int
	busy      int
}

type entry struct {
	task    pipeline.Task
	attempt int
	visible time.Time // the time from which the entry can be delivered
	acked   bool
}

// fake is a source that receives from a provider.
type fake struct {
	*provider
	calls     int
	received  bool
	cancelled bool
	err       error
	closed    int
	hinted    int // calls of Hints
}

// harness returns a harness of fakes with a fault; "" means none.
func harness(f fault, features Features) Harness {
	var last *provider
	open := func(t testing.TB, tasks []pipeline.Task, broken error) *fake {
		p := &provider{
			fault: f, features: features, broken: broken,
			changed: make(chan struct{}, 1), testDone: make(chan struct{}),
		}
		t.Cleanup(func() { close(p.testDone) })
		for _, task := range tasks {
			p.entries = append(p.entries, &entry{task: task})
		}
		if f == "order" {
			slices.Reverse(p.entries)
		}
		last = p
		return &fake{provider: p}
	}
	return Harness{
		New: func(t testing.TB, tasks []pipeline.Task) pipeline.Source { return open(t, tasks, nil) },
		NewBroken: func(t testing.TB, tasks []pipeline.Task) pipeline.Source {
			return open(t, tasks, errors.New("line 7 is broken"))
		},
		NewUnreachable: func(t testing.TB) pipeline.Source {
			s := open(t, nil, nil)
			s.silent = true
			return s
		},
		Delivered: func() int {
			last.mu.Lock()
			defer last.mu.Unlock()
			return last.delivered
		},
		Features: features,
	}
}

func (s *fake) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	s.calls++
	s.received = true
	if s.fault == "goroutine" && s.calls == 1 {
		go func() { <-s.testDone }()
	}
	if s.fault == "limit" {
		limit++
	}
	if s.silent {
		<-ctx.Done()
		if s.fault == "unreachable error" {
			return nil, errors.New("broken")
		}
		return nil, ctx.Err()
	}
	for {
		if s.err != nil && s.fault != "error" {
			return nil, s.err
		}
		ds, wait := s.take(limit)
		switch {
		case ctx.Err() != nil && s.fault == "lose on cancel":
			s.cancelled = true
			return nil, ctx.Err()
		case len(ds) > 0 && s.fault == "eof with tasks" && wait < 0:
			return ds, io.EOF
		case len(ds) > 0 && s.fault == "error with tasks" && s.exhausted():
			s.err = s.broken
			return ds, s.err
		case len(ds) > 0:
			return ds, nil
		case wait < 0 && s.fault == "eof" && s.calls%2 == 0:
			return nil, nil
		case wait < 0:
			s.err = io.EOF
			if s.broken != nil && (s.fault != "error" || s.calls%2 == 0) {
				s.err = s.broken
			}
			return nil, s.err
		}
		done := ctx.Done()
		if s.fault == "context" {
			done = nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.changed:
		case <-s.testDone:
		case <-done:
			s.cancelled = true
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
		if s.fault == "context" && isClosed(s.testDone) {
			return nil, ctx.Err()
		}
	}
}

// exhausted reports whether every task has been delivered.
func (p *provider) exhausted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delivered == len(p.entries)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// take returns at most limit available tasks, and how long to wait for more. wait is negative if no
// more tasks will arrive.
func (p *provider) take(limit int) (ds []*pipeline.Delivery, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	wait = time.Hour
	remaining := 0
	for i, e := range p.entries {
		switch {
		case e.acked && p.fault != "ack":
			continue
		case e.visible.After(now):
			wait = min(wait, e.visible.Sub(now))
			remaining++
			continue
		case len(ds) == limit:
			remaining++
			continue
		}
		if p.fault == "loss" && i == 7 {
			e.acked = true
			continue
		}
		e.attempt++
		e.visible = now.Add(24 * time.Hour)
		if d := p.features.LeaseDuration; d > 0 && p.fault != "lease" {
			e.visible = now.Add(d)
		}
		e.acked = p.features.Finite // a finite list does not redeliver
		p.delivered++
		d := p.deliver(e, now)
		if ds = append(ds, d); p.fault == "twice" && i == 3 && e.attempt == 1 {
			e.visible, e.acked = time.Time{}, false
			e.attempt--
		}
	}
	if p.fault == "read ahead" {
		p.delivered = len(p.entries)
	}
	if p.fault == "unknown task" && len(p.entries) == 0 {
		return []*pipeline.Delivery{pipeline.NewDelivery(pipeline.Task{ID: "unknown task", Data: []byte("1")}, nil, 1)}, 0
	}
	if p.broken != nil || remaining == 0 && p.features.Finite {
		wait = -1
	}
	return ds, wait
}

func (p *provider) deliver(e *entry, now time.Time) *pipeline.Delivery {
	task, attempt := e.task, e.attempt
	var v any
	switch {
	case p.fault == "data" && json.Unmarshal(task.Data, &v) == nil:
		task.Data, _ = json.Marshal(v)
	case p.fault == "big":
		task.Data = task.Data[:min(len(task.Data), 64<<10)]
	case p.fault == "attempt":
		attempt = 1
	}
	if p.features.LeaseDuration == 0 && !p.features.Redelivers {
		return pipeline.NewDelivery(task, nil, attempt)
	}
	l := &lease{p: p, e: e, attempt: e.attempt}
	if p.features.LeaseDuration > 0 {
		l.expires = now.Add(p.features.LeaseDuration)
	}
	return pipeline.NewDelivery(task, l, attempt)
}

func (s *fake) Hints() pipeline.Hints {
	s.hinted++
	switch {
	case s.fault == "batch size":
		return pipeline.Hints{BatchSize: 1000}
	case s.fault == "shared":
		return pipeline.Hints{Shared: true}
	case s.fault == "changing hints":
		return pipeline.Hints{BatchSize: s.hinted}
	}
	return pipeline.Hints{Shared: s.features.Redelivers, BatchSize: 10}
}

func (s *fake) LastFailure() time.Time {
	if s.silent && s.fault == "health hangs" {
		<-s.testDone
	}
	if s.silent && s.fault != "healthy" || s.fault == "unhealthy" {
		return time.Now()
	}
	return time.Time{}
}

func (s *fake) ReceiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) ([]*pipeline.Delivery, error) {
	switch {
	case s.fault == "never idle":
		return s.Receive(ctx, limit)
	case s.fault == "idle goroutine":
		at := make(chan time.Time)
		go func() { at <- idleAt() }()
		<-at
	case s.fault == "idle early" && s.calls >= 1:
		if ds, _ := s.take(limit); len(ds) > 0 {
			return ds, nil
		}
		return nil, pipeline.ErrIdle
	}
	for {
		waiting, cancel := context.WithDeadline(ctx, idleAt())
		ds, err := s.Receive(waiting, limit)
		ended := waiting.Err() != nil
		cancel()
		switch {
		case err == nil || !ended:
			return ds, err
		case ctx.Err() != nil && s.fault == "idle context":
			return nil, pipeline.ErrIdle
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case s.fault == "idle once" || !idleAt().After(time.Now()):
			return nil, pipeline.ErrIdle
		}
	}
}

func (s *fake) Close(context.Context) error {
	s.closed++
	switch {
	case s.fault == "close unused" && !s.received,
		s.fault == "close twice" && s.closed == 2,
		s.fault == "close cancelled" && s.cancelled:
		return errors.New("broken")
	case s.fault == "close panics" && s.closed == 2:
		panic("close of closed channel")
	case s.fault == "close hangs" && s.cancelled:
		<-s.testDone
	}
	return nil
}

// lease is the lease of one delivery of an entry.
type lease struct {
	p       *provider
	e       *entry
	attempt int
	expires time.Time
}

func (l *lease) ExpiresAt() time.Time { return l.expires }

// change calls f to change the entry, if the lease is still valid. request is the name of the
// method that calls change.
func (l *lease) change(ctx context.Context, request string, f func()) error {
	if ctx.Err() != nil {
		if l.p.fault == fault(request+" hangs") {
			<-l.p.testDone
		}
		return ctx.Err()
	}
	if l.p.fault == "concurrent" { // loses each change that overlaps with another change
		l.p.mu.Lock()
		l.p.busy++
		alone := l.p.busy == 1
		l.p.mu.Unlock()
		defer func() { l.p.mu.Lock(); l.p.busy--; l.p.mu.Unlock() }()
		timer := time.NewTimer(time.Millisecond)
		<-timer.C
		if !alone {
			return nil
		}
	}
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	if l.e.attempt != l.attempt {
		if l.p.features.DetectsLostLease && l.p.fault != fault("lost "+request) {
			return pipeline.ErrLeaseLost
		}
		return nil
	}
	f()
	select {
	case l.p.changed <- struct{}{}:
	default:
	}
	return nil
}

func (l *lease) Ack(ctx context.Context) error {
	return l.change(ctx, "Ack", func() { l.e.acked = true })
}

func (l *lease) Release(ctx context.Context, delay time.Duration) error {
	switch l.p.fault {
	case "release":
		return nil
	case "delay":
		delay = 0
	}
	return l.change(ctx, "Release", func() { l.e.visible = time.Now().Add(delay) })
}

func (l *lease) Extend(ctx context.Context, d time.Duration) (time.Time, error) {
	until := time.Now().Add(d)
	switch l.p.fault {
	case "extend":
		return until, nil
	case "extend early":
		until = until.Add(-time.Second)
	case "extend late":
		until = until.Add(time.Second)
	case "moving expiry":
		l.expires = until
	}
	return until, l.change(ctx, "Extend", func() { l.e.visible = until })
}
