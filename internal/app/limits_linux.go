package app

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// ownThreads is the number of threads that ctworker and its guard process need. addressSpace is an
// address space that is always sufficient. Both were measured on amd64 with eight CPUs.
const (
	ownThreads   = 20
	addressSpace = 4 << 30
)

// checkLimits returns an error if a resource limit is too low for ctworker itself, and a warning if
// it may be too low. Without this check, Go's runtime would abort when it reaches the limit.
func checkLimits() (warning string, err error) {
	var limit unix.Rlimit
	// The limit on processes does not apply to root; see setrlimit(2).
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

// userThreads returns the number of threads of a user's processes, as far as /proc shows them.
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

// threads returns the number of threads of a process, or 0 if it is unknown.
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
