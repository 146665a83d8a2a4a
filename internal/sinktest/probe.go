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

// A probe drives one sink through one case. Every call of the sink is bounded in
// time.
type probe struct {
	testing.TB
	h    Harness
	sink pipeline.Sink
	read func() [][]byte

	mu   sync.Mutex
	told []string // what has to be there, in order where there is one
}

// open makes the sink of a case.
func (p *probe) open() {
	p.Helper()
	p.sink, p.read = p.h.New(p.TB)
	p.told = nil
}

// finish closes the sink where the case has not.
func (p *probe) finish() {
	p.Helper()
	if p.sink == nil {
		return
	}
	if err := p.close(); err != nil {
		p.Errorf("Close: %v", err)
	}
}

// close closes the sink, once.
func (p *probe) close() error {
	p.Helper()
	sink := p.sink
	p.sink = nil
	return p.closeSink(sink)
}

func (p *probe) closeSink(sink pipeline.Sink) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.Context()), p.h.Patience)
	defer cancel()
	return p.within("Close", func() error { return sink.Close(ctx) })
}

// within calls f and returns its error, or one that says that it has not
// returned by Patience or has panicked.
func (p *probe) within(what string, f func() error) error {
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				ended <- fmt.Errorf("%s panicked: %v\n%s", what, v, debug.Stack())
			}
		}()
		ended <- f()
	}()
	timer := time.NewTimer(p.h.Patience)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		return fmt.Errorf("%s had not returned %v after it had to", what, p.h.Patience)
	}
}

// try writes events under ctx and returns the error. It may be called from any
// goroutine.
func (p *probe) try(ctx context.Context, events ...pipeline.Event) error {
	sink := p.sink
	return p.within("Write", func() error { return sink.Write(ctx, events) })
}

// write writes events, which has to succeed. It may be called from any
// goroutine.
func (p *probe) write(events ...pipeline.Event) {
	p.Helper()
	texts := make([]string, len(events))
	for i := range events {
		texts[i] = string(events[i].AppendJSON(nil))
	}
	if err := p.try(p.Context(), events...); err != nil {
		p.Errorf("Write: %v", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, texts...)
}

// verify checks that what was written is there, whole and once, and nothing but
// it and what may be there.
func (p *probe) verify(may ...pipeline.Event) {
	p.Helper()
	missing, allowed := map[string]int{}, map[string]bool{}
	for _, text := range p.told {
		missing[text]++
	}
	for _, e := range may {
		allowed[string(e.AppendJSON(nil))] = true
	}
	for _, got := range p.read() {
		text := string(got)
		switch {
		case missing[text] > 0:
			missing[text]--
		case allowed[text]:
			delete(allowed, text)
		case !json.Valid(got):
			p.Fatalf("what was told is no JSON: %s", abridge(text))
		default:
			p.Fatalf("an event was told twice, or not as it was written: %s", abridge(text))
		}
	}
	for text, n := range missing {
		if n > 0 {
			p.Fatalf("an event was not told: %s", abridge(text))
		}
	}
}

// verifyOrder checks that what is there is what was written, in order.
func (p *probe) verifyOrder() {
	p.Helper()
	for i, got := range p.read() {
		if i < len(p.told) && string(got) != p.told[i] {
			p.Fatalf("event %d is %s, want %s", i, abridge(string(got)), abridge(p.told[i]))
		}
	}
}

func abridge(text string) string {
	if len(text) <= 300 {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", utf8cut.Start(text, 300), len(text))
}

// at is the time of every event, so that the suite's output is the same each
// time.
var at = time.Date(2025, 5, 26, 3, 56, 26, 321172000, time.UTC)

// event returns an event of a task that is its own.
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
