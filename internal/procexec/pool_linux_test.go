package procexec_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
)

// After a run, there are no additional processes, descriptors or goroutines.
func TestPool_LeavesNothing(t *testing.T) {
	isolated(t, func(t *testing.T) {
		work := func(n int) {
			actions := slices.Repeat([]action{{Do: "count"}, {Do: "kill"}, {Do: "exit"}}, n)
			startPool(t, "worker-ring", 3, procexec.PoolOptions{MaxTasks: 2}).all(actions...)
		}
		work(2)
		before := descriptors(t)
		work(20)
		if after := descriptors(t); after > before+6 { // 6 descriptors belong to the launcher, which is closed later
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

// A process that corrupts the shared ring is killed. Its task fails with that reason, and other
// tasks run.
func TestPool_KillsProcessThatCorruptsRing(t *testing.T) {
	t.Parallel()
	r := startPool(t, "worker-corrupt-ring", 1, procexec.PoolOptions{})
	results := r.all(action{}, action{})
	for id, result := range results {
		if result.Kind != outcome.Exception || !strings.Contains(result.Exception, "CTWORKER_RING_FD") {
			t.Errorf("task %d: %+v", id, result)
		}
	}
}
