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

// provider is a queue in memory, with leases, or a list that ends.
type provider struct {
	fault    fault
	features Features
	broken   error // instead of io.EOF
	gone     chan struct{}

	mu      sync.Mutex
	entries []*entry
	changed chan struct{}
	handed  int
	busy    int
}

type entry struct {
	task    pipeline.Task
	attempt int
	visible time.Time // from when on it may be handed out
	acked   bool
}

// fake is a source of a provider.
type fake struct {
	*provider
	calls     int
	received  bool
	cancelled bool
	err       error
	closed    int
}

// harness returns a harness of fakes that have a fault, or none.
func harness(f fault, features Features) Harness {
	var last *provider
	open := func(t testing.TB, tasks []pipeline.Task, broken error) *fake {
		p := &provider{
			fault: f, features: features, broken: broken,
			changed: make(chan struct{}, 1), gone: make(chan struct{}),
		}
		t.Cleanup(func() { close(p.gone) })
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
		Delivered: func() int {
			last.mu.Lock()
			defer last.mu.Unlock()
			return last.handed
		},
		Features: features,
	}
}

func (s *fake) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	s.calls++
	s.received = true
	if s.fault == "goroutine" && s.calls == 1 {
		go func() { <-s.gone }()
	}
	if s.fault == "limit" {
		limit++
	}
	for {
		if s.err != nil && s.fault != "error" {
			return nil, s.err
		}
		ds, wait := s.take(limit)
		switch {
		case ctx.Err() != nil && s.fault == "strand":
			s.cancelled = true
			return nil, ctx.Err()
		case len(ds) > 0 && s.fault == "eof with tasks" && wait < 0:
			return ds, io.EOF
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
		case <-s.gone:
		case <-done:
			s.cancelled = true
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
		if s.fault == "context" && isClosed(s.gone) {
			return nil, ctx.Err()
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// take takes what is there, and says how long to wait for more: less than 0
// where there will never be any.
func (p *provider) take(limit int) (ds []*pipeline.Delivery, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	wait = time.Hour
	left := 0
	for i, e := range p.entries {
		switch {
		case e.acked && p.fault != "ack":
			continue
		case e.visible.After(now):
			wait = min(wait, e.visible.Sub(now))
			left++
			continue
		case len(ds) == limit:
			left++
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
		e.acked = p.features.Finite // nobody else is told of it
		p.handed++
		d := p.deliver(e, now)
		if ds = append(ds, d); p.fault == "twice" && i == 3 && e.attempt == 1 {
			e.visible, e.acked = time.Time{}, false
			e.attempt--
		}
	}
	if p.fault == "read ahead" {
		p.handed = len(p.entries)
	}
	if p.fault == "made up" && len(p.entries) == 0 {
		return []*pipeline.Delivery{pipeline.NewDelivery(pipeline.Task{ID: "made up", Data: []byte("1")}, nil, 1)}, 0
	}
	if p.broken != nil || left == 0 && p.features.Finite {
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
		<-s.gone
	}
	return nil
}

// lease is one delivery's hold on an entry.
type lease struct {
	p       *provider
	e       *entry
	attempt int
	expires time.Time
}

func (l *lease) ExpiresAt() time.Time { return l.expires }

// change changes the entry, while the lease is held.
func (l *lease) change(f func()) error {
	if l.p.fault == "concurrent" { // loses what comes while another is on its way
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
		if l.p.features.DetectsLostLease {
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

func (l *lease) Ack(context.Context) error {
	return l.change(func() { l.e.acked = true })
}

func (l *lease) Release(_ context.Context, delay time.Duration) error {
	switch l.p.fault {
	case "release":
		return nil
	case "delay":
		delay = 0
	}
	return l.change(func() { l.e.visible = time.Now().Add(delay) })
}

func (l *lease) Extend(_ context.Context, d time.Duration) (time.Time, error) {
	until := time.Now().Add(d)
	if l.p.fault == "extend" {
		return until, nil
	}
	return until, l.change(func() { l.e.visible = until })
}
