package progress_test

import (
	"fmt"
	"time"

	"github.com/ctworker/ctworker/internal/progress"
)

// 2,000 tasks took 1 MB of a file of 50 MB, in 40 seconds.
func ExampleEstimate() {
	total, _ := progress.Estimate(2000, 0, 1_000_000, 50_000_000)
	rate := 2000 / (40 * time.Second).Seconds()
	left := time.Duration(float64(total-2000) / rate * float64(time.Second))
	fmt.Printf("about %d tasks, %s/s, %s left\n", total, progress.Rate(rate), progress.Duration(left))
	// Output: about 100000 tasks, 50.0/s, 32m40s left
}
