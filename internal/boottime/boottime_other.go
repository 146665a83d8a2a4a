//go:build !linux && !darwin

package boottime

import "time"

func running() (time.Duration, bool)   { return 0, false }
func sinceBoot() (time.Duration, bool) { return 0, false }
