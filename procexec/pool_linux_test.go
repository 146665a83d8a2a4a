package procexec_test

import (
	"slices"
	"testing"

	"github.com/ctworker/ctworker/procexec"
)

// A run leaves no process, descriptor or goroutine.
func TestPoolLeavesNothing(t *testing.T) {
	isolated(t, func(t *testing.T) {
		work := func(n int) {
			orders := slices.Repeat([]order{{Do: "count"}, {Do: "kill"}, {Do: "exit"}}, n)
			startPool(t, "warm-ahead", procexec.PoolOptions{Slots: 3, MaxTasks: 2}).all(orders...)
		}
		work(2)
		before := descriptors(t)
		work(20)
		if after := descriptors(t); after > before+6 { // of the launcher, which closes later
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}
