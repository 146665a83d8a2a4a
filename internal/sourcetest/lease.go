package sourcetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// expectRedelivery receives again the only task of the source, within d.
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
	began := time.Now() // before the release, so that its duration does not matter
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
	lease := p.h.Features.LeaseDuration
	ctx, cancel := context.WithCancel(p.Context())
	var extending sync.WaitGroup
	defer extending.Wait()
	defer cancel()
	extending.Go(func() {
		ticker := time.NewTicker(lease / 4)
		defer ticker.Stop()
		for {
			until, err := d.Extend(ctx, lease)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				p.Errorf("extend: %v", err)
				return
			case !until.After(time.Now()):
				p.Errorf("Extend returned %v, which is in the past", until)
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

func aLostLeaseIsReported(p *probe) {
	p.open(p.h.New, makeTasks(2))
	ctx, cancel := context.WithTimeout(p.Context(), 10*p.h.Timeout)
	defer cancel()
	old := map[string]*pipeline.Delivery{}
	for _, d := range p.collect(2, 2) {
		old[d.Task.ID] = d
	}
	var second []*pipeline.Delivery
	for len(second) < 2 {
		ds, err := p.receive(p.redeliveryTime()+p.h.Timeout, 2-len(second))
		if err != nil {
			p.Fatalf("Receive returned %v, want redeliveries", err)
		}
		second = append(second, ds...)
	}
	extended, acked := old[second[0].Task.ID], old[second[1].Task.ID]
	if _, err := extended.Extend(ctx, p.h.Features.LeaseDuration); !errors.Is(err, pipeline.ErrLeaseLost) {
		p.Errorf("extending a lost lease returned %v, want ErrLeaseLost", err)
	} else {
		<-extended.Lost() // closed by pipeline.Delivery
	}
	if err := acked.Ack(ctx); !errors.Is(err, pipeline.ErrLeaseLost) {
		p.Errorf("acknowledging on a lost lease returned %v, want ErrLeaseLost", err)
	}
	p.ack(second...)
	p.expectNone(p.redeliveryTime())
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
