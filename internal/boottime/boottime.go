// Package boottime tells the time with the time counted in which the machine was
// suspended.
//
// Go's monotonic clock stands still while the machine is suspended, and the clock of
// whoever holds a lease for us does not. A deadline that somebody else counts has to be
// compared with this clock.
//
//	until := boottime.Now().Add(lease)
//	…
//	if boottime.Now().Before(until) { /* the lease holds */ }
//
// Times of this package are compared with one another only, and not with those of
// time.Now. On systems other than Linux and macOS the time suspended is not known and
// counts as 0. A virtual machine that its host freezes may not know of it either.
package boottime

import "time"

// Now returns the current time, moved forward by Suspended.
func Now() time.Time {
	suspended := Suspended()
	return time.Now().Add(suspended)
}

// Suspended returns for how long the machine has been suspended since it was booted.
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
		// A process that is stopped between the readings would count that time as well.
		if between := after - before; i == 0 || between < width {
			best, width = all-after, between
		}
		if width < precise {
			break
		}
	}
	return max(best, 0)
}
