package sourcetest

import (
	"context"
	"errors"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// maxBatchSize is the maximum of pipeline.Hints.BatchSize.
const maxBatchSize = 256

// optionalInterfaces checks the optional interfaces pipeline.Hinter and pipeline.HealthReporter.
func optionalInterfaces(p *probe) {
	tasks := p.open(p.h.New, makeTasks(3))
	if h, ok := p.src.(pipeline.Hinter); ok {
		hints := h.Hints()
		switch {
		case hints.BatchSize < 0 || hints.BatchSize > maxBatchSize:
			p.Errorf("Hints: BatchSize is %d, want 0 to %d", hints.BatchSize, maxBatchSize)
		case hints.Shared && p.h.Features.Finite:
			p.Error("Hints: Shared is set, but Features.Finite is set")
		case hints != h.Hints():
			p.Errorf("Hints returned %+v and then %+v", hints, h.Hints())
		}
	}
	p.ack(p.collect(len(tasks), len(tasks))...)
	if r, ok := p.src.(pipeline.HealthReporter); ok {
		if at := r.LastFailure(); !at.IsZero() {
			p.Errorf("LastFailure is %v although no request has failed", at)
		}
	}
}

// If a source implements pipeline.Idler, ReceiveUntilIdle returns the tasks. When no task has
// arrived for the idle time, it returns ErrIdle, and not earlier.
func anIdleSourceEnds(p *probe) {
	tasks := p.open(p.h.NewBlocking, makeTasks(5))
	idler, ok := p.src.(pipeline.Idler)
	if !ok {
		return
	}
	receive := func(after time.Duration) (ds []*pipeline.Delivery, err error) {
		p.Helper()
		at := time.Now().Add(after)
		timeoutErr := p.callWithTimeout("ReceiveUntilIdle", after+p.h.Timeout, func() {
			ds, err = idler.ReceiveUntilIdle(p.Context(), len(tasks), func() time.Time { return at })
		})
		if timeoutErr != nil {
			p.src = nil // must not be closed while ReceiveUntilIdle runs
			p.Fatal(timeoutErr)
		}
		p.received = append(p.received, ds...)
		return ds, err
	}
	var all []*pipeline.Delivery
	for len(all) < len(tasks) {
		ds, err := receive(p.h.Timeout)
		if err != nil {
			p.Fatalf("ReceiveUntilIdle returned %v, want a task", err)
		}
		p.ack(ds...)
		all = append(all, ds...)
	}
	p.checkOnce(tasks, all)
	began := time.Now()
	ds, err := receive(2 * time.Second)
	if len(ds) > 0 || !errors.Is(err, pipeline.ErrIdle) {
		p.Fatalf("ReceiveUntilIdle returned %d deliveries and the error %v, want ErrIdle", len(ds), err)
	}
	// A source may end its last request up to a second early.
	if took := time.Since(began); took < time.Second {
		p.Errorf("ReceiveUntilIdle returned ErrIdle after %v, before the idle time of 2s was over", took)
	}
	ended, cancel := context.WithCancel(p.Context())
	cancel()
	if ds, err := idler.ReceiveUntilIdle(ended, 1, time.Now); len(ds) > 0 || err == nil {
		p.Errorf("ReceiveUntilIdle returned %d deliveries and the error %v after the end of its context", len(ds), err)
	}
}
