package worker

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

// usage is what a process has used.
type usage struct {
	cpu  time.Duration
	peak int64 // bytes of memory at most
}

// ownUsage is what this process has used, without its children.
func ownUsage() usage {
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

// highWater is the most memory that this process has had. The system's account of
// usage has that of the process that started it too (Linux), where it was more.
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
