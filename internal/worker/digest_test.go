package worker

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/digest"
)

// What this project adds to a keep_alive event is smaller than 1 KiB, whatever the names are.
func TestKeepAliveEvent_Size(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"host", strings.Repeat("\x00", 255), strings.Repeat("\"", 5000), strings.Repeat("\xff", 5000), strings.Repeat("<&>", 5000)} {
		d := digest.Digest{
			Phase: digest.Draining, Interval: math.MaxFloat64, Slots: math.MaxInt64, Running: math.MaxInt64, Completed: math.MaxInt64, Exception: math.MaxInt64,
			TimedOut: math.MaxInt64, Exited: math.MaxInt64, Retried: math.MaxInt64, Rate: 1.0 / 3e9, P50: 1.0 / 3e9, P99: 1.0 / 3e9, CPU: 100.0 / 3,
			MemoryUsed: math.MaxInt64, MemoryTotal: math.MaxInt64, TaskPeakMemory: math.MaxInt64, Version: text,
		}
		now := time.Date(2026, 11, 27, 12, 0, 0, 123456000, time.UTC)
		e := newKeepAliveEvent(text, text, text, newRunID(), &d, now)
		whole := e.AppendJSON(nil)
		if !json.Valid(whole) {
			t.Errorf("not JSON: %s", whole)
		}
		e.RunID, e.Extra = "", e.Extra[:2] // the fields of the specification
		if added := len(whole) - len(e.AppendJSON(nil)); added >= 1024 {
			t.Errorf("names such as %.10q: %d bytes are added, want less than 1024", text, added)
		}
	}
}
