package eventlog_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// child is the environment variable with the name of the program that this binary runs instead of
// its tests; see process_test.go.
const child = "EVENTLOG_TEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(child); what != "" {
		children[what](os.Args[1:])
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
