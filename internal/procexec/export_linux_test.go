package procexec

import "os"

// OrphanScan returns a function that scans once for orphans of l, and returns how many orphans it
// killed. Options.Subreaper of l must be false.
func OrphanScan(l *Launcher) func() int {
	o := &orphans{launcher: l, self: os.Getpid(), before: map[int]bool{}, unmarked: map[int]int64{}}
	return func() int {
		killed, _ := o.scan(false)
		return len(killed)
	}
}

// CheckProcAt exports checkProcAt.
var CheckProcAt = checkProcAt
