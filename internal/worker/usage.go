package worker

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

// usage is the resource usage of a process.
type usage struct {
	cpu  time.Duration
	peak int64 // peak memory in bytes
}

// selfUsage returns the resource usage of this process without its children.
func selfUsage() usage {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return usage{}
	}
	u := usage{cpu: time.Duration(r.Utime.Nano() + r.Stime.Nano()), peak: r.Maxrss}
	if runtime.GOOS == "linux" {
		u.peak *= 1 << 10
	}
	if peak, ok := peakMemory(); ok {
		u.peak = peak
	}
	return u
}

// peakMemory returns the peak memory of this process. On Linux, it is used instead of ru_maxrss of
// getrusage, which a process inherits from its parent on exec.
func peakMemory() (int64, bool) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, false
	}
	_, rest, ok := bytes.Cut(text, []byte("VmHWM:"))
	var kib int64
	if _, err := fmt.Sscan(string(rest[:min(len(rest), 32)]), &kib); !ok || err != nil {
		return 0, false
	}
	return kib << 10, true
}
