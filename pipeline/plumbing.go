package pipeline

import (
	"time"

	"github.com/ctworker/ctworker/internal/plumbing"
	"github.com/ctworker/ctworker/internal/prefetch"
)

// Plumbing returns the methods of a Run that only the stages in this module need. Do not use it in
// other modules: it may change at any time.
func (r *Run) Plumbing() plumbing.Run { return (*runPlumbing)(r) }

// Plumbing returns the methods of a Delivery that only the stages in this module need. Do not use
// it in other modules: it may change at any time.
func (d *Delivery) Plumbing() plumbing.Delivery { return (*deliveryPlumbing)(d) }

// runPlumbing implements plumbing.Run.
type runPlumbing Run

func (p *runPlumbing) Prefetch() *prefetch.Controller { return p.prefetch }

func (p *runPlumbing) OnEnd(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onEnd = append(p.onEnd, f)
}

// deliveryPlumbing implements plumbing.Delivery.
type deliveryPlumbing Delivery

func (p *deliveryPlumbing) OnSettled(f func()) {
	p.mu.Lock()
	settled := p.settled != open
	if !settled {
		p.onSettled = f
	}
	p.mu.Unlock()
	if settled {
		f()
	}
}

func (p *deliveryPlumbing) ReceivedAt() time.Time { return p.received }

func (p *deliveryPlumbing) ExpiresAt() time.Time { return p.lease.ExpiresAt() }

func (p *deliveryPlumbing) Lease() plumbing.Lease { return p.lease }

func (p *deliveryPlumbing) SetRerun() { p.rerun = true }

func (p *deliveryPlumbing) IsRerun() bool { return p.rerun }

func (p *deliveryPlumbing) Settled() bool { return (*Delivery)(p).isSettled() }

func (p *deliveryPlumbing) MarkLeaseLost(cause error) { (*Delivery)(p).markLeaseLost(cause) }

func (p *deliveryPlumbing) RemainingLease() time.Duration { return (*Delivery)(p).remainingLease() }

func (p *deliveryPlumbing) TaskEnded() { (*Delivery)(p).taskEnded() }

func (p *deliveryPlumbing) Withheld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.withheld
}

func (p *deliveryPlumbing) ReportLoss() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reported {
		return nil
	}
	p.reported = p.cause != nil
	return p.cause
}
