package procexec_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/procexec"
)

// A run leaves no process, descriptor or goroutine.
func TestPoolLeavesNothing(t *testing.T) {
	isolated(t, func(t *testing.T) {
		work := func(n int) {
			orders := slices.Repeat([]order{{Do: "count"}, {Do: "kill"}, {Do: "exit"}}, n)
			startPool(t, "worker-ring", procexec.PoolOptions{Slots: 3, MaxTasks: 2}).all(orders...)
		}
		work(2)
		before := descriptors(t)
		work(20)
		if after := descriptors(t); after > before+6 { // of the launcher, which closes later
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

// A process that writes nonsense into the memory that it shares is ended, its task told
// of with what it did, and the others run.
func TestPoolSpoiledRing(t *testing.T) {
	t.Parallel()
	r := startPool(t, "worker-spoiler", procexec.PoolOptions{})
	reports := r.all(order{}, order{})
	for id, report := range reports {
		if report.Kind != procexec.Failed || !strings.Contains(report.Exception, "CTWORKER_RING_FD") {
			t.Errorf("task %d: %+v", id, report)
		}
	}
}
