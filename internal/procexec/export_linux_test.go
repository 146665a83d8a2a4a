package procexec

import "os"

// OrphanScan returns what looks once for orphans of l, which has no Subreaper,
// and returns how many processes it took for some.
func OrphanScan(l *Launcher) func() int {
	o := &orphans{launcher: l, self: os.Getpid(), before: map[int]bool{}, unmarked: map[int]int64{}}
	return func() int {
		killed, _ := o.scan(false)
		return len(killed)
	}
}

// CheckProcAt is checkProcAt.
var CheckProcAt = checkProcAt
