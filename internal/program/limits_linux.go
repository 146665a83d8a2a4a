package program

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Threads and processes of ctworker itself, with its guard, and an address space that is
// always enough, as measured on amd64 with eight CPUs.
const (
	ownThreads   = 20
	addressSpace = 4 << 30
)

// checkLimits returns an error if a limit of this process leaves too little for ctworker
// itself, and a warning if one may. Go's runtime can only abort once a limit is reached.
func checkLimits() (warning string, err error) {
	var limit unix.Rlimit
	// The limit on processes does not hold for root; see setrlimit(2).
	if unix.Getrlimit(unix.RLIMIT_NPROC, &limit) == nil && os.Geteuid() != 0 && limit.Cur < math.MaxInt32 {
		if used := userThreads(os.Getuid()); used > 0 && used+ownThreads > int(limit.Cur)+threads("self") {
			return "", fmt.Errorf("the limit on processes and threads of this user (ulimit -u, RLIMIT_NPROC) is %d, of which %d are in use: "+
				"ctworker needs %d, and each task at least one more: raise the limit", limit.Cur, used, ownThreads)
		}
	}
	if unix.Getrlimit(unix.RLIMIT_AS, &limit) == nil && limit.Cur < addressSpace {
		warning = fmt.Sprintf("the address space is limited to %d MiB (ulimit -v, RLIMIT_AS): if ctworker or a task runs out of memory, raise the limit", limit.Cur>>20)
	}
	return warning, nil
}

// userThreads is how many threads the processes of a user have, as far as /proc shows them.
func userThreads(uid int) (n int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil && int(st.Uid) == uid {
			n += threads(filepath.Base(dir))
		}
	}
	return n
}

// threads is how many threads a process has, or 0.
func threads(process string) int {
	status, err := os.ReadFile(filepath.Join("/proc", process, "status"))
	if err != nil {
		return 0
	}
	_, after, _ := bytes.Cut(status, []byte("\nThreads:"))
	count, _, _ := bytes.Cut(after, []byte("\n"))
	n, _ := strconv.Atoi(string(bytes.TrimSpace(count)))
	return n
}
