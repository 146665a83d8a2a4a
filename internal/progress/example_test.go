package progress_test

import (
	"fmt"
	"time"

	"github.com/ctworker/ctworker/internal/progress"
	"github.com/ctworker/ctworker/internal/units"
)

// 2,000 tasks, which occupy 1 MB of a file of 50 MB, have run in 40 seconds.
func ExampleEstimateTotal() {
	total, _ := progress.EstimateTotal(2000, 0, 1_000_000, 50_000_000)
	rate := 2000 / (40 * time.Second).Seconds()
	remaining := time.Duration(float64(total-2000) / rate * float64(time.Second))
	fmt.Printf("about %d tasks, %s/s, %s left\n", total, units.Rate(rate), units.Duration(remaining))
	// Output: about 100000 tasks, 50.0/s, 32m40s left
}
