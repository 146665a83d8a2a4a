package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// The clocks of clock_gettime(3) of macOS. Go's own is the one that stands still while
// the machine sleeps.
const (
	clockMonotonic = 6 // CLOCK_MONOTONIC: counts the time asleep
	clockUptimeRaw = 8 // CLOCK_UPTIME_RAW: does not
)

func running() (time.Duration, bool)   { return read(clockUptimeRaw) }
func sinceBoot() (time.Duration, bool) { return read(clockMonotonic) }

func read(clock int32) (time.Duration, bool) {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, false
	}
	return time.Duration(t.Nano()), true
}
