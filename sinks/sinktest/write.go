package sinktest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/pipeline"
)

func eventsAreWrittenWhenWriteReturns(p *probe) {
	p.open()
	odd := event("größe/\"1\"\n世界")
	odd.Outcome.Result = []byte("{\"max\": 18446744073709551615,\n\t\"f\": 1e400}")
	failed := event("failed")
	failed.Type, failed.Outcome = pipeline.TaskException, pipeline.Outcome{Exception: "line 1\nline 2\x00\xff"}
	ended := pipeline.Event{Time: at, Hostname: "host", Type: pipeline.FatalException, Exception: "x", StackTrace: "y\nz"}
	for i, batch := range [][]pipeline.Event{events("one", 1), events("many", 300), {odd, failed}, {ended}} {
		p.write(batch...)
		if p.verify(); p.Failed() {
			p.Fatalf("after Write %d", i+1)
		}
	}
}

func noEvents(p *probe) {
	p.open()
	for _, none := range [][]pipeline.Event{nil, {}} {
		p.write(none...)
	}
	p.verify()
	p.write(event("after"))
	p.verify()
}

func aBigEvent(p *probe) {
	p.open()
	p.write(event("before"), bigEvent("big", min(p.h.Features.MaxEvent, maxEventSize)), event("after"))
	p.verify()
}

func orderWithinAWrite(p *probe) {
	p.open()
	for i := range 5 {
		p.write(events(fmt.Sprint(i), 50)...)
	}
	p.verify()
	p.verifyOrder()
}

// Run this case with -race, because it may detect a data race in the sink.
func writingConcurrently(p *probe) {
	p.open()
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 20 {
				batch := events(fmt.Sprintf("%d-%d", w, i), 4)
				if i%5 == 0 {
					batch = append(batch, bigEvent(fmt.Sprintf("%d-%d-big", w, i), min(p.h.Features.MaxEvent, 50_000)))
				}
				p.write(batch...)
			}
		})
	}
	writers.Wait()
	p.verify()
}

// After Write has returned, the sink must not use the slice or its bytes, because the caller reuses
// them for its next events.
func eventsAreNotRetained(p *probe) {
	p.open()
	batch := events("first", 10)
	p.write(batch...) // passes batch itself to the sink, not a copy
	for i := range batch {
		for j := range batch[i].Outcome.Result {
			batch[i].Outcome.Result[j] = 'x'
		}
		batch[i] = event(fmt.Sprintf("second-%d", i))
	}
	p.write(batch[:3]...)
	clear(batch)
	p.verify()
	if err := p.close(); err != nil {
		p.Errorf("Close: %v", err)
	}
	p.verify()
}

func anEndedContext(p *probe) {
	p.open()
	p.write(event("before"))
	during := events("during", 3)
	switch err := p.try(endedContext(p), during...); {
	case err == nil: // every event is durable
		p.written = append(p.written, p.texts(during)...)
	case !errors.Is(err, context.Canceled):
		p.Errorf("Write returned %v, want its context's error", err)
	}
	p.write(event("after"))
	p.verify(during...)
}

func (p *probe) texts(events []pipeline.Event) []string {
	var all []string
	for _, e := range events {
		all = append(all, p.encode(&e))
	}
	return all
}

// Two Writes are called concurrently. The first one blocks, and the second one waits for the first.
// Both must return when their context ends.
func aContextThatEndsMeanwhile(p *probe) {
	p.sink = p.h.NewStalled(p.TB)
	ctx, cancel := context.WithTimeout(p.Context(), 50*time.Millisecond)
	defer cancel()
	var writers sync.WaitGroup
	for i := range 2 {
		writers.Go(func() {
			if err := p.try(ctx, bigEvent(fmt.Sprint(i), maxEventSize)); !errors.Is(err, context.DeadlineExceeded) {
				p.Errorf("Write returned %v, want its context's error", err)
			}
		})
	}
	writers.Wait()
	p.closeWith(endedContext(p))
}

func writeAfterClose(p *probe) {
	p.open()
	p.write(event("before"))
	sink := p.sink
	if err := p.close(); err != nil {
		p.Errorf("Close: %v", err)
	}
	after := event("after")
	if err := p.callWithTimeout("Write", func() error { return sink.Write(p.Context(), []pipeline.Event{after}) }); err == nil {
		p.Error("Write after Close returned no error")
	}
	p.verify()
}

func closeUnused(p *probe) {
	p.open()
	if err := p.close(); err != nil {
		p.Errorf("Close: %v", err)
	}
	p.verify()
}

func closeTwice(p *probe) {
	p.open()
	p.write(event("one"))
	sink := p.sink
	p.sink = nil
	for range 2 {
		if err := p.closeSink(sink); err != nil {
			p.Fatalf("Close: %v", err)
		}
	}
	p.verify()
}

func closeWithAnEndedContext(p *probe) {
	p.open()
	p.write(events("one", 3)...)
	p.closeWith(endedContext(p))
	p.verify()
}

// closeWith checks that Close returns promptly although ctx has ended. Close may return an error,
// for example because it could not flush.
func (p *probe) closeWith(ctx context.Context) {
	p.Helper()
	sink := p.sink
	p.sink = nil
	if timeoutErr := p.callWithTimeout("Close", func() error { _ = sink.Close(ctx); return nil }); timeoutErr != nil {
		p.Error(timeoutErr)
	}
}

func endedContext(p *probe) context.Context {
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.Context()))
	cancel()
	return ctx
}

func noGoroutineIsLeft(p *probe) {
	for _, use := range []struct {
		name string
		run  func()
	}{
		{"closed unused", func() {}},
		{"closed after a Write", func() { p.write(events("one", 3)...) }},
		{"closed after a cancelled Write", func() { _ = p.try(endedContext(p), event("one")) }},
	} {
		ignored := append([]goleak.Option{goleak.IgnoreCurrent()}, p.h.IgnoreGoroutines...)
		p.open()
		use.run()
		p.finish()
		if err := goleak.Find(ignored...); err != nil {
			p.Fatalf("%s: %v", use.name, err)
		}
	}
}

// Write skips an event if the event's function Withheld returns true, which means that the lease of
// the task was lost. Write must call Withheld each time, because the lease can be lost between two
// attempts to write the event.
func withheldEvents(p *probe) {
	p.open()
	lost, held, calls := event("lost"), event("held"), 0
	lost.Withheld = func() bool { return true }
	held.Withheld = func() bool { calls++; return false }
	if err := p.try(p.Context(), lost, held, event("plain")); err != nil {
		p.Fatalf("Write with a withheld event: %v", err)
	}
	if err := p.try(p.Context(), lost); err != nil {
		p.Fatalf("Write of a withheld event only: %v", err)
	}
	if calls == 0 {
		p.Error("Write did not call Withheld")
	}
	held.Withheld = nil
	p.written = p.texts([]pipeline.Event{held, event("plain")})
	p.verify()
}
