// Package boottime provides a clock that does not stop while the machine is suspended.
//
// Go's monotonic clock stops while the machine is suspended. The clock of a provider that grants a
// lease does not stop. Use this package for deadlines that another machine enforces:
//
//	until := boottime.Now().Add(lease)
//	…
//	if boottime.Now().Before(until) { /* the lease holds */ }
//
// Compare the times of this package only with each other, not with those of time.Now. On systems
// other than Linux and macOS, the suspended time is unknown and counts as 0. If a host freezes a
// virtual machine, the frozen time may not count as suspended.
package boottime

import "time"

// Now returns time.Now plus Suspended.
func Now() time.Time {
	suspended := Suspended()
	return time.Now().Add(suspended)
}

// Suspended returns the total time for which the machine has been suspended since boot. If this time
// is unknown, Suspended returns 0.
func Suspended() time.Duration {
	const (
		tries   = 10                     // maximum number of measurements
		precise = 100 * time.Microsecond // a measurement that takes less time is exact enough
	)
	var best, width time.Duration
	for i := range tries {
		before, ok := running()
		all, known := sinceBoot()
		after, _ := running()
		if !ok || !known {
			return 0
		}
		// If this process is stopped between two readings, their difference is too large. Keep the
		// readings with the shortest time between them.
		if between := after - before; i == 0 || between < width {
			best, width = all-after, between
		}
		if width < precise {
			break
		}
	}
	return max(best, 0)
}
