package eventlog_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// child is an environment variable. If it is set, the test binary runs the function with this name in
// children instead of its tests; see process_test.go.
const child = "EVENTLOG_TEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(child); what != "" {
		children[what](os.Args[1:])
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
