package sourcetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/plumbing"
	"github.com/ctworker/ctworker/pipeline"
)

// expectRedelivery receives the only task of the source again, within d.
func (p *probe) expectRedelivery(first *pipeline.Delivery, d time.Duration) *pipeline.Delivery {
	p.Helper()
	ds, err := p.receive(d, 1)
	if err != nil {
		p.Fatalf("Receive returned %v, want a redelivery of task %q", err, first.Task.ID)
	}
	if want := first.Attempt + 1; p.h.Features.CountsAttempts && ds[0].Attempt != want {
		p.Errorf("task %q was redelivered with attempt %d, want %d", ds[0].Task.ID, ds[0].Attempt, want)
	}
	return ds[0]
}

func aReleasedTaskIsRedelivered(p *probe) {
	p.open(p.h.New, makeTasks(1))
	d := p.next(1)[0]
	for range 2 {
		p.mustSettle(func(ctx context.Context) error { return d.Release(ctx, 0) })
		d = p.expectRedelivery(d, p.promptTime())
	}
	p.ack(d)
}

func aReleaseKeepsItsDelay(p *probe) {
	p.open(p.h.New, makeTasks(1))
	d := p.next(1)[0]
	began := time.Now() // before the release, so that the duration of the release is included
	p.mustSettle(func(ctx context.Context) error { return d.Release(ctx, p.h.Features.ReleaseDelay) })
	next := p.expectRedelivery(d, p.h.Features.ReleaseDelay+p.promptTime())
	if took := time.Since(began); took < p.h.Features.ReleaseDelay {
		p.Errorf("the task was redelivered after %v, want at least %v", took, p.h.Features.ReleaseDelay)
	}
	p.ack(next)
}

func anAcknowledgedTaskIsNotRedelivered(p *probe) {
	p.open(p.h.New, makeTasks(5))
	p.ack(p.collect(5, 5)...)
	p.expectNone(p.redeliveryTime())
}

func anUnsettledTaskIsRedelivered(p *probe) {
	p.open(p.h.New, makeTasks(1))
	began := time.Now()
	first := p.next(1)[0]
	second := p.expectRedelivery(first, p.redeliveryTime()+p.h.Timeout)
	// Accept half of the lease duration, because the provider may start the lease before Receive
	// returns.
	if took := time.Since(began); took < p.h.Features.LeaseDuration/2 {
		p.Errorf("the task was redelivered after %v, want about %v", took, p.h.Features.LeaseDuration)
	}
	p.ack(second)
	p.expectNone(p.redeliveryTime())
}

func extendingKeepsTheTask(p *probe) {
	p.open(p.h.New, makeTasks(1))
	d := p.next(1)[0]
	lease, expires := p.h.Features.LeaseDuration, d.Plumbing().ExpiresAt()
	ctx, cancel := context.WithCancel(p.Context())
	var extending sync.WaitGroup
	defer extending.Wait()
	defer cancel()
	extending.Go(func() {
		ticker := time.NewTicker(lease / 4)
		defer ticker.Stop()
		for {
			began := time.Now()
			until, err := d.Extend(ctx, lease)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				p.Errorf("extend: %v", err)
				return
			case until.Sub(began) <= lease-time.Second || time.Until(until) > lease:
				p.Errorf("Extend(%v) at %v returned %v", lease, began, until)
			case !d.Plumbing().ExpiresAt().Equal(expires):
				p.Errorf("ExpiresAt is %v after Extend, want %v as before", d.Plumbing().ExpiresAt(), expires)
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	if ds, _ := p.receive(5*lease/2, 1); len(ds) > 0 {
		p.Errorf("task %q was redelivered, attempt %d, while its lease was extended", ds[0].Task.ID, ds[0].Attempt)
	}
	cancel()
	extending.Wait()
	p.ack(d)
	p.expectNone(p.redeliveryTime())
}

// aLostLeaseIsReported calls the methods of the leases directly. A Delivery whose lease has expired
// would return ErrLeaseLost without a request to the source.
func aLostLeaseIsReported(p *probe) {
	const n = 3
	p.open(p.h.New, makeTasks(n))
	ctx, cancel := context.WithTimeout(p.Context(), 10*p.h.Timeout)
	defer cancel()
	old := p.collect(n, n)
	var again []*pipeline.Delivery
	for len(again) < n {
		ds, err := p.receive(p.redeliveryTime()+p.h.Timeout, n-len(again))
		if err != nil {
			p.Fatalf("Receive returned %v, want redeliveries", err)
		}
		again = append(again, ds...)
	}
	for i, request := range []struct {
		name string
		call func(plumbing.Lease) error
	}{
		{"Extend", func(l plumbing.Lease) error {
			_, err := l.Extend(ctx, p.h.Features.LeaseDuration)
			return err
		}},
		{"Ack", func(l plumbing.Lease) error { return l.Ack(ctx) }},
		{"Release", func(l plumbing.Lease) error { return l.Release(ctx, 0) }},
	} {
		if err := request.call(old[i].Plumbing().Lease()); !errors.Is(err, pipeline.ErrLeaseLost) {
			p.Errorf("%s of a lost lease returned %v, want ErrLeaseLost", request.name, err)
		}
	}
	p.ack(again...)
	p.expectNone(p.redeliveryTime())
}

// The contract does not specify whether the requests are sent, because their context has ended before the
// call.
func anEndedContextEndsRequests(p *probe) {
	tasks := p.open(p.h.New, makeTasks(3))
	ds := p.collect(len(tasks), len(tasks))
	ended, cancel := context.WithCancel(p.Context())
	cancel()
	for i, request := range []struct {
		name string
		call func(plumbing.Lease)
	}{
		{"Extend", func(l plumbing.Lease) { _, _ = l.Extend(ended, max(p.h.Features.LeaseDuration, time.Second)) }},
		{"Ack", func(l plumbing.Lease) { _ = l.Ack(ended) }},
		{"Release", func(l plumbing.Lease) { _ = l.Release(ended, 0) }},
	} {
		if err := p.callWithTimeout(request.name, 0, func() { request.call(ds[i].Plumbing().Lease()) }); err != nil {
			p.Errorf("with a context that has ended: %v", err)
		}
	}
}

// Run this case with -race, because it may detect a data race in the source.
func settlingConcurrently(p *probe) {
	const n = 48
	p.open(p.h.New, makeTasks(n))
	var settling sync.WaitGroup
	defer settling.Wait()
	again := map[string]bool{} // ids of the tasks that must be redelivered
	var held []*pipeline.Delivery
	for i, d := range p.collect(n, 10) {
		if i%3 == 0 && p.h.Features.Redelivers {
			again[d.Task.ID] = true
		}
		held = append(held, d)
	}
	for i, d := range held {
		release := again[d.Task.ID]
		settling.Go(func() {
			switch {
			case release:
				p.mustSettle(func(ctx context.Context) error { return d.Release(ctx, 0) })
			case i%3 == 1:
				p.mustSettle(d.Ack)
			default:
				p.mustSettle(func(ctx context.Context) error {
					if _, err := d.Extend(ctx, max(p.h.Features.LeaseDuration, time.Second)); err != nil {
						return err
					}
					return d.Ack(ctx)
				})
			}
		})
	}
	for len(again) > 0 { // while the goroutines above settle
		for _, d := range p.next(10) {
			if !again[d.Task.ID] {
				p.Errorf("task %q was redelivered, attempt %d", d.Task.ID, d.Attempt)
			}
			delete(again, d.Task.ID)
			p.ack(d)
		}
	}
	settling.Wait()
	p.expectNone(p.redeliveryTime())
}
