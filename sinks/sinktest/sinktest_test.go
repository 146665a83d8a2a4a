package sinktest

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
)

func TestFakePasses(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		t.Run(fmt.Sprintf("ordered=%v", ordered), func(t *testing.T) { Run(t, harness("", ordered)) })
	}
}

// csvSink is a sink that does not write JSON. Each line contains the task ID and the type of an
// event.
type csvSink struct {
	mu     sync.Mutex
	text   bytes.Buffer
	closed bool
	broken bool // writes the type first
}

func csvLine(id string, kind pipeline.EventType) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write([]string{id, string(kind)}) // a Buffer does not fail
	w.Flush()
	return b.Bytes()
}

func (s *csvSink) Write(ctx context.Context, events []pipeline.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("closed")
	}
	for _, e := range events {
		if e.Withheld != nil && e.Withheld() {
			continue
		}
		if s.broken {
			s.text.Write(csvLine(string(e.Type), pipeline.EventType(e.TaskID)))
			continue
		}
		s.text.Write(csvLine(e.TaskID, e.Type))
	}
	return nil
}

func (s *csvSink) Close(context.Context) error { s.closed = true; return nil }

// read returns the lines, including those in which a field contains a line break.
func (s *csvSink) read() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows, err := csv.NewReader(bytes.NewReader(s.text.Bytes())).ReadAll()
	if err != nil {
		panic(err)
	}
	lines := make([][]byte, len(rows))
	for i, row := range rows {
		lines[i] = csvLine(row[0], pipeline.EventType(row[1]))
	}
	return lines
}

// The suite accepts a sink that does not write JSON.
func TestCSVSink(t *testing.T) {
	csvHarness := func(broken bool) Harness {
		return Harness{
			New: func(testing.TB) (pipeline.Sink, func() [][]byte) {
				s := &csvSink{broken: broken}
				return s, s.read
			},
			Encode:   func(e *pipeline.Event) []byte { return csvLine(e.TaskID, e.Type) },
			Features: Features{Ordered: true, MaxEvent: 100_000},
		}
	}
	Run(t, csvHarness(false))
	if failures := record(t, find(t, "events are written when Write returns"), csvHarness(true).withDefaults()); len(failures) == 0 {
		t.Error("a sink that writes other lines passed")
	}
}

// A sink that reorders events passes if Features.Ordered is false.
func TestOrderIsAFeature(t *testing.T) { Run(t, harness("order", false)) }

// Each case of the suite fails if the sink has the fault that the case tests for.
func TestFaultsAreCaught(t *testing.T) {
	canFail := map[string]bool{}
	for _, tc := range []struct {
		fault  fault
		caught string // name of the case
		want   string
	}{
		{"late", "events are written when Write returns", "event was not stored"},
		{"twice", "events are written when Write returns", "stored twice"},
		{"glue", "events are written when Write returns", "is not valid JSON"},
		{"empty", "no events", "differs from what was written: {}"},
		{"big", "a big event", "is not valid JSON"},
		{"order", "order within a Write", "event 0 is"},
		{"mix", "writing concurrently", "is not valid JSON"},
		{"lose", "writing concurrently", "event "},
		{"keep", "events are not retained", "stored"},
		{"ended", "an ended context", "Write: broken"},
		{"error", "an ended context", "want its context's error"},
		{"stall", "a context that ends during Write", "Write did not return"},
		{"open", "write after close", "returned no error"},
		{"close unused", "close unused", "broken"},
		{"close twice", "close twice", "broken"},
		{"close panics", "close twice", "panicked: close of closed channel"},
		{"close hangs", "close unused", "Close did not return"},
		{"close hangs", "close with an ended context", "Close did not return"},
		{"close hangs", "a context that ends during Write", "Close did not return"},
		{"never asks", "withheld events", "Write did not call Withheld"},
		{"withheld", "withheld events", "differs from what was written"},
		{"withhold all", "withheld events", "event was not stored"},
		{"goroutine", "no goroutine is left", "found unexpected goroutines"},
	} {
		canFail[tc.caught] = true
		t.Run(fmt.Sprintf("%s in %s", tc.fault, tc.caught), func(t *testing.T) {
			h := harness(tc.fault, true).withDefaults()
			synctest.Test(t, func(t *testing.T) {
				failures := strings.Join(record(t, find(t, tc.caught), h), "\n")
				if failures == "" {
					t.Fatal("the case passed")
				}
				if !strings.Contains(failures, tc.want) {
					t.Errorf("the case failed with\n%s\nwant %q in it", failures, tc.want)
				}
			})
		})
	}
	for _, c := range cases {
		if !canFail[c.name] {
			t.Errorf("no fault is listed that the case %q detects", c.name)
		}
	}
}

func find(t *testing.T, name string) testCase {
	t.Helper()
	for _, c := range cases {
		if c.name == name {
			return c
		}
	}
	t.Fatalf("there is no case %q", name)
	return testCase{}
}

// record runs a case and returns its failures.
func record(t *testing.T, c testCase, h Harness) []string {
	t.Helper()
	return pipelinetest.Failures(t, func(tb testing.TB) { c.check(tb, h) })
}
