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

// A probe drives one source through one case. Every call of the source is
// bounded in time, and every Receive is checked for what all of them promise.
type probe struct {
	testing.TB
	h   Harness
	src pipeline.Source

	tasks    map[string]pipeline.Task // what the source was made of
	received []*pipeline.Delivery
}

// open makes the source of a case.
func (p *probe) open(newSource func(testing.TB, []pipeline.Task) pipeline.Source, tasks []pipeline.Task) {
	p.Helper()
	p.tasks = make(map[string]pipeline.Task, len(tasks))
	for _, t := range tasks {
		p.tasks[t.ID] = t
	}
	p.src = newSource(p.TB, tasks)
}

// finish settles and closes what the case has not.
func (p *probe) finish() {
	p.Helper()
	if p.src == nil {
		return
	}
	for _, d := range p.received {
		if !d.Settled() {
			_ = d.LetExpire() // cannot fail: nobody else settles it
		}
	}
	p.received = nil
	if err := p.close(); err != nil {
		p.Errorf("Close: %v", err)
	}
}

// close closes the source, once.
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
	if late := p.within("Close", 0, func() { err = src.Close(ctx) }); late != nil {
		return late
	}
	return err
}

// within calls f, and returns an error where it has not returned by Patience
// after d, or has panicked.
func (p *probe) within(what string, d time.Duration, f func()) error {
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
		return fmt.Errorf("%s had not returned %v after it had to", what, p.h.Timeout)
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
	if late := p.within("Receive", d, func() { ds, err = src.Receive(ctx, limit) }); late != nil {
		p.src = nil // it is in use: it cannot be closed
		p.Fatal(late)
	}
	p.received = append(p.received, ds...)
	switch {
	case len(ds) > limit:
		p.Fatalf("Receive(%d) returned %d deliveries", limit, len(ds))
	case len(ds) == 0 && err == nil:
		p.Fatal("Receive returned no delivery and no error")
	case len(ds) > 0 && errors.Is(err, io.EOF):
		p.Fatal("Receive returned io.EOF together with deliveries; it comes alone")
	case errors.Is(err, io.EOF) && err != io.EOF:
		p.Errorf("Receive returned an error that wraps io.EOF: %v", err)
	case errors.Is(err, io.EOF) && !p.h.Features.Finite:
		p.Fatal("Receive returned io.EOF; Features.Ends is not set")
	}
	for _, d := range ds {
		p.inspect(d)
	}
	return ds, err
}

// inspect checks what holds of every delivery.
func (p *probe) inspect(d *pipeline.Delivery) {
	p.Helper()
	if d == nil {
		p.Fatal("Receive returned a nil delivery")
	}
	task, ok := p.tasks[d.Task.ID]
	switch {
	case !ok:
		p.Fatalf("a task came that there is not: %q", d.Task.ID)
	case string(d.Task.Data) != string(task.Data):
		p.Errorf("task %q: data is %s, want %s", d.Task.ID, abridge(d.Task.Data), abridge(task.Data))
	case d.Attempt < 1:
		p.Errorf("task %q: attempt is %d; it counts from 1", d.Task.ID, d.Attempt)
	case d.Settled():
		p.Errorf("task %q was settled before it came", d.Task.ID)
	}
	expires := d.ExpiresAt()
	if leases := p.h.Features.LeaseDuration > 0; leases == expires.IsZero() {
		p.Errorf("task %q: the lease ends at %v; Features.LeaseDuration is %v", d.Task.ID, expires, p.h.Features.LeaseDuration)
	}
}

func abridge(data []byte) string {
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
		p.Fatalf("Receive returned %v where a task was to come", err)
	}
	return ds
}

// collect receives n deliveries, at most limit at once, and settles none.
func (p *probe) collect(n, limit int) []*pipeline.Delivery {
	p.Helper()
	var all []*pipeline.Delivery
	for len(all) < n {
		all = append(all, p.next(min(limit, n-len(all)))...)
	}
	return all
}

// nothing checks that no task comes, for d or until the source says so.
func (p *probe) nothing(d time.Duration) {
	p.Helper()
	ds, err := p.receive(d, 1)
	switch {
	case len(ds) > 0:
		p.Fatalf("task %q came, attempt %d, where nothing was to come", ds[0].Task.ID, ds[0].Attempt)
	case p.h.Features.Finite && errors.Is(err, io.EOF):
	case p.h.Features.Finite:
		p.Fatalf("Receive returned %v, want io.EOF", err)
	case !errors.Is(err, context.DeadlineExceeded):
		p.Fatalf("Receive returned %v, want its context's error", err)
	}
}

// silence is for how long nothing comes of what is settled.
func (p *probe) silence() time.Duration { return p.h.QuietPeriod + 3*p.h.Features.LeaseDuration/2 }

// soon is within what time a task comes that is available: before the end of a
// lease can have made it so.
func (p *probe) soon() time.Duration {
	if lease := p.h.Features.LeaseDuration; lease > 0 {
		return min(p.h.Timeout, 3*lease/4)
	}
	return p.h.Timeout
}

// ack acknowledges deliveries.
func (p *probe) ack(ds ...*pipeline.Delivery) {
	p.Helper()
	for _, d := range ds {
		p.settled(d.Ack)
	}
}

// settled calls a settlement, which has to succeed.
func (p *probe) settled(settle func(context.Context) error) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), p.h.Timeout)
	defer cancel()
	var err error
	if late := p.within("settling", 0, func() { err = settle(ctx) }); late != nil {
		p.Error(late)
	} else if err != nil {
		p.Error(err)
	}
}

// once checks that deliveries are each task of the source once, at its first
// attempt, and in order where there is one.
func (p *probe) once(tasks []pipeline.Task, ds []*pipeline.Delivery) {
	p.Helper()
	seen := make(map[string]bool, len(ds))
	for i, d := range ds {
		if seen[d.Task.ID] {
			p.Errorf("task %q came twice", d.Task.ID)
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

// missing reports the tasks that have not been seen.
func (p *probe) missing(tasks []pipeline.Task, seen map[string]bool) {
	p.Helper()
	for _, task := range tasks {
		if !seen[task.ID] {
			p.Errorf("task %q did not come", task.ID)
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
