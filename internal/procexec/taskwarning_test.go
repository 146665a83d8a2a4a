package procexec_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
)

// Each warning is logged once, with the id of the first task that sent it. The number of warnings
// and their length are limited, because a task could otherwise fill the log.
func TestPool_LogsEachWarningOnce(t *testing.T) {
	t.Parallel()
	for _, child := range []string{"worker", "worker-ahead", "worker-ring"} {
		t.Run(child, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			actions := []action{{Do: "warn", Arg: "odd"}, {Do: "warn", Arg: "odd"}, {}, {Do: "warn", Arg: strings.Repeat("z", 5000)}}
			for i := range 30 {
				actions = append(actions, action{Do: "warn", Arg: fmt.Sprint("odd ", i)})
			}
			r := startPool(t, child, 1, procexec.PoolOptions{Log: zerolog.New(zerolog.SyncWriter(&log))})
			for i, result := range r.all(actions...) {
				if result.Kind != outcome.Completed {
					t.Errorf("t%d: %+v", i, result)
				}
			}
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			if len(lines) != 16 || strings.Count(log.String(), `"warning":"odd"`) != 1 || !strings.Contains(lines[0], `"first_task_id":"t0"`) {
				t.Errorf("%d lines: %s", len(lines), log.String())
			}
			if longest := strings.Count(log.String(), "z"); longest != 2048 {
				t.Errorf("a warning of 5000 bytes was logged with %d bytes", longest)
			}
		})
	}
}
