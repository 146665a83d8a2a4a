package sinktest

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/utf8cut"
	"github.com/ctworker/ctworker/pipeline"
)

// probe runs one case with one sink. It limits the duration of each call of the sink.
type probe struct {
	testing.TB
	h    Harness
	sink pipeline.Sink
	read func() [][]byte

	mu      sync.Mutex
	written []string // the encoded events that were written successfully, in order
}

// encode returns the form in which p.read returns an event.
func (p *probe) encode(e *pipeline.Event) string {
	if p.h.Encode != nil {
		return string(p.h.Encode(e))
	}
	return string(e.AppendJSON(nil))
}

// open creates the sink of the case.
func (p *probe) open() {
	p.Helper()
	p.sink, p.read = p.h.New(p.TB)
	p.written = nil
}

// finish closes the sink if the case has not closed it.
func (p *probe) finish() {
	p.Helper()
	if p.sink == nil {
		return
	}
	if err := p.close(); err != nil {
		p.Errorf("Close: %v", err)
	}
}

// close closes the sink, and prevents finish from closing it again.
func (p *probe) close() error {
	p.Helper()
	sink := p.sink
	p.sink = nil
	return p.closeSink(sink)
}

func (p *probe) closeSink(sink pipeline.Sink) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.Context()), p.h.Timeout)
	defer cancel()
	return p.callWithTimeout("Close", func() error { return sink.Close(ctx) })
}

// callWithTimeout calls f. It returns the error of f. If f panics, or does not return within
// Harness.Timeout, it returns an error that contains what, the name of the call.
func (p *probe) callWithTimeout(what string, f func() error) error {
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				ended <- fmt.Errorf("%s panicked: %v\n%s", what, v, debug.Stack())
			}
		}()
		ended <- f()
	}()
	timer := time.NewTimer(p.h.Timeout)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		return fmt.Errorf("%s did not return within %v", what, p.h.Timeout)
	}
}

// try writes events with ctx, and returns the error. It is safe for concurrent use.
func (p *probe) try(ctx context.Context, events ...pipeline.Event) error {
	sink := p.sink
	return p.callWithTimeout("Write", func() error { return sink.Write(ctx, events) })
}

// write writes events, and reports an error if that fails. It is safe for concurrent use.
func (p *probe) write(events ...pipeline.Event) {
	p.Helper()
	texts := make([]string, len(events))
	for i := range events {
		texts[i] = p.encode(&events[i])
	}
	if err := p.try(p.Context(), events...); err != nil {
		p.Errorf("Write: %v", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written = append(p.written, texts...)
}

// verify checks that p.read returns each written event completely and once. p.read may also return
// the events in may, but no other events.
func (p *probe) verify(may ...pipeline.Event) {
	p.Helper()
	missing, allowed := map[string]int{}, map[string]bool{}
	for _, text := range p.written {
		missing[text]++
	}
	for _, e := range may {
		allowed[p.encode(&e)] = true
	}
	for _, got := range p.read() {
		text := string(got)
		switch {
		case missing[text] > 0:
			missing[text]--
		case allowed[text]:
			delete(allowed, text)
		case p.h.Encode == nil && !json.Valid(got):
			p.Fatalf("event is not valid JSON: %s", excerpt(text))
		default:
			p.Fatalf("event was stored twice, or differs from what was written: %s", excerpt(text))
		}
	}
	for text, n := range missing {
		if n > 0 {
			p.Fatalf("event was not stored: %s", excerpt(text))
		}
	}
}

// verifyOrder checks that p.read returns the events in the order in which they were written.
func (p *probe) verifyOrder() {
	p.Helper()
	for i, got := range p.read() {
		if i < len(p.written) && string(got) != p.written[i] {
			p.Fatalf("event %d is %s, want %s", i, excerpt(string(got)), excerpt(p.written[i]))
		}
	}
}

func excerpt(text string) string {
	if len(text) <= 300 {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", utf8cut.Start(text, 300), len(text))
}

// at is the time of every event. It is fixed so that each run writes the same bytes.
var at = time.Date(2025, 5, 26, 3, 56, 26, 321172000, time.UTC)

// event returns an event of the task with the given id.
func event(id string) pipeline.Event {
	return pipeline.Event{
		Time: at, Hostname: "host", Type: pipeline.TaskCompleted, TaskID: id, Attempt: 1,
		Outcome: pipeline.Outcome{Kind: pipeline.Completed, Elapsed: time.Second, Result: json.RawMessage(`{"of": "` + id + `"}`)},
	}
}

func events(name string, n int) []pipeline.Event {
	all := make([]pipeline.Event, n)
	for i := range all {
		all[i] = event(fmt.Sprintf("%s-%d", name, i))
	}
	return all
}

// bigEvent returns an event of about size bytes.
func bigEvent(id string, size int) pipeline.Event {
	e := event(id)
	text := make([]byte, max(size-400, 2))
	for i := range text {
		text[i] = 'a' + byte(i%26)
	}
	text[0], text[len(text)-1] = '"', '"'
	e.Outcome.Result = text
	return e
}
