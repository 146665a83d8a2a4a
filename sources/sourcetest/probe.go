package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/utf8cut"
	"github.com/ctworker/ctworker/pipeline"
)

// probe runs one case with one source. It limits the duration of each call of the source, and
// checks the result of each Receive for the general requirements of the contract.
type probe struct {
	testing.TB
	h   Harness
	src pipeline.Source

	tasks    map[string]pipeline.Task // the tasks that the source must deliver
	received []*pipeline.Delivery
}

// open creates the source of the case, and returns the tasks that the source must deliver. If
// newSource is nil, the source is from Harness.NewOwn and makes len(tasks) tasks of its own.
// Otherwise, the source is from newSource and delivers the argument tasks.
func (p *probe) open(newSource func(testing.TB, []pipeline.Task) pipeline.Source, tasks []pipeline.Task) []pipeline.Task {
	p.Helper()
	if newSource == nil {
		p.src, tasks = p.h.NewOwn(p.TB, len(tasks))
	}
	p.tasks = make(map[string]pipeline.Task, len(tasks))
	for _, t := range tasks {
		p.tasks[t.ID] = t
	}
	if newSource != nil {
		p.src = newSource(p.TB, tasks)
	}
	return tasks
}

// finish settles the remaining deliveries and closes the source. It does nothing if the case has
// closed the source.
func (p *probe) finish() {
	p.Helper()
	if p.src == nil {
		return
	}
	for _, d := range p.received {
		if !d.Plumbing().Settled() {
			_ = d.LetExpire() // cannot fail, because the case no longer runs
		}
	}
	p.received = nil
	if err := p.close(); err != nil {
		p.Errorf("Close: %v", err)
	}
}

// close closes the source, and prevents finish from closing it again.
func (p *probe) close() error {
	p.Helper()
	src := p.src
	p.src = nil
	return p.closeSource(src)
}

func (p *probe) closeSource(src pipeline.Source) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.Context()), p.h.Timeout)
	defer cancel()
	var err error
	if timeoutErr := p.callWithTimeout("Close", 0, func() { err = src.Close(ctx) }); timeoutErr != nil {
		return timeoutErr
	}
	return err
}

// callWithTimeout calls f. It returns an error if f panics, or does not return within d plus
// Harness.Timeout. The error contains what, which is the name of the call.
func (p *probe) callWithTimeout(what string, d time.Duration, f func()) error {
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				ended <- fmt.Errorf("%s panicked: %v\n%s", what, v, debug.Stack())
			}
			close(ended)
		}()
		f()
	}()
	timer := time.NewTimer(d + p.h.Timeout)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		return fmt.Errorf("%s did not return within %v", what, d+p.h.Timeout)
	}
}

// receive calls Receive with a context that ends after d.
func (p *probe) receive(d time.Duration, limit int) ([]*pipeline.Delivery, error) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), d)
	defer cancel()
	src := p.src
	var ds []*pipeline.Delivery
	var err error
	if timeoutErr := p.callWithTimeout("Receive", d, func() { ds, err = src.Receive(ctx, limit) }); timeoutErr != nil {
		p.src = nil // must not be closed while Receive runs
		p.Fatal(timeoutErr)
	}
	p.received = append(p.received, ds...)
	switch {
	case len(ds) > limit:
		p.Fatalf("Receive(%d) returned %d deliveries", limit, len(ds))
	case len(ds) == 0 && err == nil:
		p.Fatal("Receive returned no delivery and no error")
	case len(ds) > 0 && errors.Is(err, io.EOF):
		p.Fatal("Receive returned io.EOF together with deliveries; it must return io.EOF alone")
	case errors.Is(err, io.EOF) && err != io.EOF:
		p.Errorf("Receive returned an error that wraps io.EOF: %v", err)
	case errors.Is(err, io.EOF) && !p.h.Features.Finite:
		p.Fatal("Receive returned io.EOF, but Features.Finite is not set")
	}
	for _, d := range ds {
		p.inspect(d)
	}
	return ds, err
}

// inspect checks the general requirements for a delivery.
func (p *probe) inspect(d *pipeline.Delivery) {
	p.Helper()
	if d == nil {
		p.Fatal("Receive returned a nil delivery")
	}
	task, ok := p.tasks[d.Task.ID]
	switch {
	case !ok:
		p.Fatalf("Receive returned an unknown task: %q", d.Task.ID)
	case string(d.Task.Data) != string(task.Data):
		p.Errorf("task %q: data is %s, want %s", d.Task.ID, excerpt(d.Task.Data), excerpt(task.Data))
	case d.Attempt < 1:
		p.Errorf("task %q: attempt is %d, want 1 or more", d.Task.ID, d.Attempt)
	case d.Plumbing().Settled():
		p.Errorf("task %q: the new delivery is already settled", d.Task.ID)
	}
	expires := d.Plumbing().ExpiresAt()
	if leases := p.h.Features.LeaseDuration > 0; leases == expires.IsZero() {
		p.Errorf("task %q: ExpiresAt is %v, but Features.LeaseDuration is %v", d.Task.ID, expires, p.h.Features.LeaseDuration)
	}
}

func excerpt(data []byte) string {
	if len(data) <= 200 {
		return string(data)
	}
	return fmt.Sprintf("%s… (%d bytes)", utf8cut.Start(data, 200), len(data))
}

// next receives between 1 and limit deliveries.
func (p *probe) next(limit int) []*pipeline.Delivery {
	p.Helper()
	ds, err := p.receive(p.h.Timeout, limit)
	if err != nil {
		p.Fatalf("Receive returned %v, want a task", err)
	}
	return ds
}

// collect receives n deliveries, at most limit per Receive, and does not settle them.
func (p *probe) collect(n, limit int) []*pipeline.Delivery {
	p.Helper()
	var all []*pipeline.Delivery
	for len(all) < n {
		all = append(all, p.next(min(limit, n-len(all)))...)
	}
	return all
}

// expectNone checks that no task is delivered for d, or that a finite source returns io.EOF.
func (p *probe) expectNone(d time.Duration) {
	p.Helper()
	ds, err := p.receive(d, 1)
	switch {
	case len(ds) > 0:
		p.Fatalf("Receive returned task %q, attempt %d, want no task", ds[0].Task.ID, ds[0].Attempt)
	case p.h.Features.Finite && errors.Is(err, io.EOF):
	case p.h.Features.Finite:
		p.Fatalf("Receive returned %v, want io.EOF", err)
	case !errors.Is(err, context.DeadlineExceeded):
		p.Fatalf("Receive returned %v, want its context's error", err)
	}
}

// redeliveryTime returns how long to wait for a redelivery. A task that is not redelivered within
// this time has been settled.
func (p *probe) redeliveryTime() time.Duration {
	return p.h.QuietPeriod + 3*p.h.Features.LeaseDuration/2
}

// promptTime returns the time within which an available task must be delivered. It is shorter than
// a lease, so that the redelivery of a task whose lease has expired is not mistaken for a prompt
// delivery.
func (p *probe) promptTime() time.Duration {
	if lease := p.h.Features.LeaseDuration; lease > 0 {
		return min(p.h.Timeout, 3*lease/4)
	}
	return p.h.Timeout
}

// ack acknowledges deliveries, and reports an error if that fails.
func (p *probe) ack(ds ...*pipeline.Delivery) {
	p.Helper()
	for _, d := range ds {
		p.mustSettle(d.Ack)
	}
}

// mustSettle calls settle, and reports its error.
func (p *probe) mustSettle(settle func(context.Context) error) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), p.h.Timeout)
	defer cancel()
	var err error
	if timeoutErr := p.callWithTimeout("settling", 0, func() { err = settle(ctx) }); timeoutErr != nil {
		p.Error(timeoutErr)
	} else if err != nil {
		p.Error(err)
	}
}

// checkOnce checks that ds contains each task exactly once, with attempt 1, and in the order of
// tasks if Features.Ordered is set.
func (p *probe) checkOnce(tasks []pipeline.Task, ds []*pipeline.Delivery) {
	p.Helper()
	seen := make(map[string]bool, len(ds))
	for i, d := range ds {
		if seen[d.Task.ID] {
			p.Errorf("task %q was delivered twice", d.Task.ID)
		}
		seen[d.Task.ID] = true
		if d.Attempt != 1 {
			p.Errorf("task %q: attempt is %d, want 1", d.Task.ID, d.Attempt)
		}
		if p.h.Features.Ordered && i < len(tasks) && d.Task.ID != tasks[i].ID {
			p.Fatalf("delivery %d is task %q, want %q", i, d.Task.ID, tasks[i].ID)
		}
	}
	p.missing(tasks, seen)
}

// missing reports an error for each task that is not in seen.
func (p *probe) missing(tasks []pipeline.Task, seen map[string]bool) {
	p.Helper()
	for _, task := range tasks {
		if !seen[task.ID] {
			p.Errorf("task %q was not delivered", task.ID)
		}
	}
}

// makeTasks returns n tasks.
func makeTasks(n int) []pipeline.Task {
	tasks := make([]pipeline.Task, n)
	for i := range tasks {
		tasks[i] = pipeline.Task{ID: fmt.Sprintf("task-%03d", i), Data: fmt.Appendf(nil, `{"n":%d}`, i)}
	}
	return tasks
}
