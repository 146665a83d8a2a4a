package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// running reads the clock that stops while the machine is suspended. Go's monotonic clock is the
// same clock. sinceBoot reads the clock that does not stop. See clock_gettime(2).
func running() (time.Duration, bool)   { return read(unix.CLOCK_MONOTONIC) }
func sinceBoot() (time.Duration, bool) { return read(unix.CLOCK_BOOTTIME) }

func read(clock int32) (time.Duration, bool) {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, false
	}
	return time.Duration(t.Nano()), true
}
