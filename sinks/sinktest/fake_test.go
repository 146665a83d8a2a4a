package sinktest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// fault is one way in which a fake breaks the contract.
type fault string

// fake is a sink that stores its lines in memory.
type fake struct {
	fault    fault
	stalled  bool
	testDone chan struct{}

	mu       sync.Mutex
	lines    []byte
	buffered []byte           // written to lines by Close
	retained []pipeline.Event // not encoded before read
	writes   int
	ended    bool // the context of a Write has ended
	closed   int
}

func harness(f fault, ordered bool) Harness {
	open := func(t testing.TB) *fake {
		s := &fake{fault: f, testDone: make(chan struct{})}
		t.Cleanup(func() { close(s.testDone) })
		return s
	}
	return Harness{
		New: func(t testing.TB) (pipeline.Sink, func() [][]byte) {
			s := open(t)
			return s, s.read
		},
		NewStalled: func(t testing.TB) pipeline.Sink {
			s := open(t)
			s.stalled = true
			return s
		},
		Features: Features{Ordered: ordered, MaxEvent: 1_500_000}, // 5 MB are slow with -race
	}
}

var errFake = errors.New("broken")

func (s *fake) Write(ctx context.Context, events []pipeline.Event) error {
	if s.stalled && s.fault == "stall" {
		<-s.testDone
	}
	if s.stalled {
		<-ctx.Done()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed > 0 && s.fault != "open", s.ended && s.fault == "ended":
		return errFake
	case ctx.Err() != nil && s.fault == "error":
		return errFake
	case ctx.Err() != nil:
		s.ended = true
		return ctx.Err()
	}
	if s.writes++; s.writes == 1 && s.fault == "goroutine" {
		go func() { <-s.testDone }()
	}
	if s.fault == "keep" {
		s.retained = append(s.retained, events[:min(len(events), 10)]...)
		return nil
	}
	var text []byte
	for i := range events {
		if w := events[i].Withheld; w != nil && s.fault != "withheld" && (s.fault == "never asks" || w() || s.fault == "withhold all") {
			continue
		}
		if text = events[i].AppendJSON(text); s.fault != "glue" {
			text = append(text, '\n')
		}
		if s.fault == "twice" {
			text = append(events[i].AppendJSON(text), '\n')
		}
	}
	switch s.fault {
	case "order":
		lines := bytes.SplitAfter(text, []byte("\n"))
		slices.Reverse(lines)
		text = bytes.Join(lines, nil)
	case "empty":
		text = append(text, "{}\n"...)
	case "big":
		text = text[:min(len(text), 1<<20)]
	case "late":
		s.buffered = append(s.buffered, text...)
		return nil
	case "mix", "lose":
		half := len(text) / 2
		s.lines = append(s.lines, text[:half]...)
		n := len(s.lines)
		s.mu.Unlock()
		timer := time.NewTimer(time.Millisecond)
		<-timer.C
		s.mu.Lock()
		if s.fault == "lose" {
			s.lines = s.lines[:n]
		}
		text = text[half:]
	}
	s.lines = append(s.lines, text...)
	return nil
}

func (s *fake) read() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := slices.Clone(s.lines)
	for i := range s.retained {
		lines = append(s.retained[i].AppendJSON(lines), '\n')
	}
	return bytes.FieldsFunc(lines, func(r rune) bool { return r == '\n' })
}

func (s *fake) Close(context.Context) error {
	if s.fault == "close hangs" {
		<-s.testDone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	switch {
	case s.fault == "close unused" && s.writes == 0, s.fault == "close twice" && s.closed == 2:
		return errFake
	case s.fault == "close panics" && s.closed == 2:
		panic("close of closed channel")
	}
	s.lines = append(s.lines, s.buffered...)
	s.buffered = nil
	return nil
}
