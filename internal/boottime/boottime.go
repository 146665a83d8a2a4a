// Package boottime provides a clock that keeps running while the machine is suspended.
//
// Go's monotonic clock stops while the machine is suspended, but the clock of the provider
// that grants a lease does not. Use this package for deadlines that another machine enforces.
//
//	until := boottime.Now().Add(lease)
//	…
//	if boottime.Now().Before(until) { /* the lease holds */ }
//
// Compare times of this package only with each other, never with those of time.Now. On systems
// other than Linux and macOS, suspended time is unknown and counts as 0. A virtual machine may
// not notice that its host has frozen it.
package boottime

import "time"

// Now returns time.Now plus Suspended.
func Now() time.Time {
	suspended := Suspended()
	return time.Now().Add(suspended)
}

// Suspended returns the total time that the machine has been suspended since boot, or 0 if it
// is unknown.
func Suspended() time.Duration {
	const (
		tries   = 10
		precise = 100 * time.Microsecond
	)
	var best, width time.Duration
	for i := range tries {
		before, ok := running()
		all, known := sinceBoot()
		after, _ := running()
		if !ok || !known {
			return 0
		}
		// The process may be stopped between two readings, and the difference is then too large. So
		// keep the readings that are closest together.
		if between := after - before; i == 0 || between < width {
			best, width = all-after, between
		}
		if width < precise {
			break
		}
	}
	return max(best, 0)
}
