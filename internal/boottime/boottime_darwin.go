package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clocks of clock_gettime(3) on macOS. Go's monotonic clock is CLOCK_UPTIME_RAW.
const (
	clockMonotonic = 6 // CLOCK_MONOTONIC: continues during sleep
	clockUptimeRaw = 8 // CLOCK_UPTIME_RAW: stops during sleep
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
