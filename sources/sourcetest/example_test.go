package sourcetest_test

import (
	"testing"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/function"
	"github.com/ctworker/ctworker/sources/sourcetest"
)

// This is the test of a source that delivers the tasks of a list.
func Example() {
	_ = func(t *testing.T) { // TestContract
		sourcetest.Run(t, sourcetest.Harness{
			New: func(_ testing.TB, tasks []pipeline.Task) pipeline.Source {
				return function.Of(tasks...)
			},
			Features: sourcetest.Features{Finite: true, Ordered: true},
		})
	}
}
