package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// maxBatchSize is the maximum of pipeline.Hints.BatchSize.
const maxBatchSize = 256

// optionalInterfaces checks the implementation of pipeline.Hinter, and that of
// pipeline.HealthReporter while the provider responds.
func optionalInterfaces(p *probe) {
	tasks := p.open(p.h.New, makeTasks(3))
	if h, ok := p.src.(pipeline.Hinter); ok {
		hints := h.Hints()
		switch {
		case hints.BatchSize < 0 || hints.BatchSize > maxBatchSize:
			p.Errorf("Hints: BatchSize is %d, want 0 to %d", hints.BatchSize, maxBatchSize)
		case hints.Shared && !p.h.Features.Redelivers:
			p.Error("Hints: Shared is set, but Features.Redelivers is not: a shared source must deliver a task again, because the Run releases tasks so that other workers can receive them")
		}
		if again := h.Hints(); again != hints {
			p.Errorf("Hints returned %+v and then %+v", hints, again)
		}
	}
	p.ack(p.collect(len(tasks), len(tasks))...)
	if r, ok := p.src.(pipeline.HealthReporter); ok {
		if at := r.LastFailure(); !at.IsZero() {
			p.Errorf("LastFailure is %v although no request has failed", at)
		}
	}
}

// If a source implements pipeline.HealthReporter, LastFailure returns the current time while the
// provider is unreachable, and can be called while Receive blocks.
func anUnreachableProviderIsReported(p *probe) {
	p.tasks = nil
	p.src = p.h.NewUnreachable(p.TB)
	r, ok := p.src.(pipeline.HealthReporter)
	if !ok {
		p.Fatal("Harness.NewUnreachable is set, but the source does not implement pipeline.HealthReporter")
	}
	ctx, cancel := context.WithCancel(p.Context())
	src, ended := p.src, make(chan error, 1)
	p.src = nil // must not be closed while Receive runs
	go func() {
		_, err := src.Receive(ctx, 1)
		ended <- err
	}()
	if reported := p.eventually(func() bool {
		var now, at time.Time
		if err := p.callWithTimeout("LastFailure", 0, func() { now = time.Now(); at = r.LastFailure() }); err != nil {
			cancel()
			p.Fatal(err)
		}
		return !at.Before(now)
	}); !reported {
		p.Errorf("LastFailure did not return the current time within %v", p.h.Timeout)
	}
	cancel()
	var err error
	if timeoutErr := p.callWithTimeout("Receive", 0, func() { err = <-ended }); timeoutErr != nil {
		p.Fatal(timeoutErr)
	}
	p.src = src
	if !errors.Is(err, context.Canceled) {
		p.Errorf("Receive returned %v, want its context's error", err)
	}
}

// eventually calls condition until condition returns true, or until Harness.Timeout has passed.
func (p *probe) eventually(condition func() bool) bool {
	p.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(p.h.Timeout); !condition(); <-ticker.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// If a source implements pipeline.Idler, ReceiveUntilIdle returns the tasks. It returns ErrIdle
// when no task has arrived for the idle time, but not earlier.
func anIdleSourceEnds(p *probe) {
	tasks := p.open(p.h.NewBlocking, makeTasks(5))
	if _, ok := p.src.(pipeline.Idler); !ok {
		return
	}
	never := func() time.Time { return time.Now().Add(time.Hour) }
	var all []*pipeline.Delivery
	for len(all) < len(tasks) {
		ds, err := p.receiveUntilIdle(p.Context(), len(tasks), never)
		if err != nil {
			p.Fatalf("ReceiveUntilIdle returned %v, want a task", err)
		}
		p.ack(ds...)
		all = append(all, ds...)
	}
	p.checkOnce(tasks, all)

	ended, cancel := context.WithCancel(p.Context())
	cancel()
	if ds, err := p.receiveUntilIdle(ended, 1, never); len(ds) > 0 || !errors.Is(err, context.Canceled) {
		p.Errorf("ReceiveUntilIdle returned %d deliveries and the error %v after the end of its context", len(ds), err)
	}

	// The idle time moves to a later time after the first call of idleAt.
	const first, idle = time.Second, 3 * time.Second
	began, calls := time.Now(), 0
	ds, err := p.receiveUntilIdle(p.Context(), len(tasks), func() time.Time {
		if calls++; calls == 1 {
			return began.Add(first)
		}
		return began.Add(idle)
	})
	if len(ds) > 0 || !errors.Is(err, pipeline.ErrIdle) {
		p.Fatalf("ReceiveUntilIdle returned %d deliveries and the error %v, want ErrIdle", len(ds), err)
	}
	// A source may end its last request up to a second early.
	if took := time.Since(began); took < idle-time.Second {
		p.Errorf("ReceiveUntilIdle returned ErrIdle after %v, before the idle time of %v was over", took, idle)
	}
}

// receiveUntilIdle calls ReceiveUntilIdle, and checks that it calls idleAt on its own goroutine.
func (p *probe) receiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) (ds []*pipeline.Delivery, err error) {
	p.Helper()
	idler := p.src.(pipeline.Idler)
	var once sync.Once
	timeoutErr := p.callWithTimeout("ReceiveUntilIdle", 3*time.Second, func() {
		caller := goroutineID()
		ds, err = idler.ReceiveUntilIdle(ctx, limit, func() time.Time {
			if goroutineID() != caller {
				once.Do(func() { p.Error("ReceiveUntilIdle called idleAt on another goroutine") })
			}
			return idleAt()
		})
	})
	if timeoutErr != nil {
		p.src = nil // must not be closed while ReceiveUntilIdle runs
		p.Fatal(timeoutErr)
	}
	p.received = append(p.received, ds...)
	for _, d := range ds {
		p.inspect(d)
	}
	return ds, err
}

// goroutineID returns the number of the current goroutine.
func goroutineID() string {
	var stack [64]byte
	return string(bytes.Fields(stack[:runtime.Stack(stack[:], false)])[1]) // "goroutine 7 [running]:"
}
