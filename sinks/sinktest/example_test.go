package sinktest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/eventlog"
	"github.com/ctworker/ctworker/sinks/sinktest"
)

// This is the test of a sink that writes lines to a file.
func Example() {
	_ = func(t *testing.T) { // TestContract
		sinktest.Run(t, sinktest.Harness{
			New: func(t testing.TB) (pipeline.Sink, func() [][]byte) {
				path := filepath.Join(t.TempDir(), "events.log")
				log, err := eventlog.Open(t.Context(), path, eventlog.Options{})
				if err != nil {
					t.Fatal(err)
				}
				return log, func() [][]byte {
					text, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					lines := bytes.Split(text, []byte("\n"))
					return lines[:len(lines)-1] // the part after the last line break is empty
				}
			},
			Features: sinktest.Features{Ordered: true},
		})
	}
}
