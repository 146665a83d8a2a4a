package config

import (
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// UsableCPUs returns the number of CPUs that this process can keep busy, at least 1. It is the
// number of CPUs on which the process may run, or less if a control group limits the CPU time. A
// limit of 2.5 CPUs counts as 3. If there are no control groups, or their files cannot be read,
// UsableCPUs assumes no limit.
//
// UsableCPUs does not use GOMAXPROCS, because the default of GOMAXPROCS is never below 2 if a
// control group sets the limit, and because the user can change it
// (https://pkg.go.dev/runtime#GOMAXPROCS).
func UsableCPUs() int {
	// NumCPU respects the CPU affinity but not control groups.
	return usableCPUs(os.DirFS("/"), runtime.NumCPU())
}

// usableCPUs implements UsableCPUs. root is the root of the file system, and cpus is the number of
// CPUs on which the process may run.
func usableCPUs(root fs.FS, cpus int) int {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return max(cpus, 1)
	}
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return max(cpus, 1)
	}
	own := parseGroups(string(groups))
	for line := range strings.Lines(string(mounts)) {
		m, ok := parseMount(line)
		if !ok {
			continue
		}
		// The limit of a group also applies to all groups below it.
		for dir := range m.upward(own[m.version]) {
			if limit, ok := cpuLimit(root, dir, m.version); ok {
				cpus = min(cpus, limit)
			}
		}
	}
	return max(cpus, 1)
}

// parseGroups returns the paths of the control groups that limit the CPU time of this process. The
// key is the version of control groups, 1 or 2. A line of the input has the form
// hierarchy-ID:controllers:path. The line of version 2 has the form 0::path. See cgroups(7).
func parseGroups(lines string) map[int]string {
	own := make(map[int]string)
	for line := range strings.Lines(lines) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(parts) < 3:
		case parts[0] == "0" && parts[1] == "":
			own[2] = parts[2]
		case listed("cpu", parts[1]):
			own[1] = parts[2]
		}
	}
	return own
}

func listed(word, list string) bool {
	return strings.Contains(","+list+",", ","+word+",")
}

// mount is a mount point of a hierarchy of control groups.
type mount struct {
	version int
	root    string // the group whose directory is mounted at point
	point   string
}

// parseMount parses a line of mountinfo. Fields 4 and 5 are the root and the mount point. The type,
// the source and the options follow after " - ". In version 1, the options contain the names of the
// controllers. See proc_pid_mountinfo(5).
func parseMount(line string) (mount, bool) {
	before, after, ok := strings.Cut(line, " - ")
	place, kind := strings.Fields(before), strings.Fields(after)
	if !ok || len(place) < 5 || len(kind) < 3 {
		return mount{}, false
	}
	m := mount{root: unescape(place[3]), point: unescape(place[4])}
	switch {
	case kind[0] == "cgroup2":
		m.version = 2
	case kind[0] == "cgroup" && listed("cpu", kind[2]):
		m.version = 1
	default:
		return mount{}, false
	}
	return m, true
}

// unescape decodes the escape sequences that mountinfo uses for white space and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// upward yields the directory of group, and then the directories of the groups that contain it, up
// to the root of the mount. If group is outside of the mount, as in a container that sees only its
// own group, upward yields only the root of the mount.
func (m mount) upward(group string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if group == "" {
			return // this process is in no group of this version
		}
		below := "/"
		group, root := path.Clean("/"+group), path.Clean("/"+m.root)
		if rest, ok := strings.CutPrefix(group, root); ok && (root == "/" || rest == "" || rest[0] == '/') {
			below = path.Clean("/" + rest)
		}
		for {
			if !yield(strings.TrimPrefix(path.Join("/", m.point, below), "/")) || below == "/" {
				return
			}
			below = path.Dir(below)
		}
	}
}

// cpuLimit returns the number of CPUs that a group may use, rounded up. It returns false if the
// group has no limit. The limit is a quota of CPU time per period. In version 2, the file cpu.max
// contains the quota and the period. In version 1, each has its own file. A quota of "max" or -1
// means that there is no limit.
func cpuLimit(root fs.FS, dir string, version int) (int, bool) {
	read := func(name string) string {
		content, err := fs.ReadFile(root, path.Join(dir, name))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(content))
	}
	quota, period, _ := strings.Cut(read("cpu.max"), " ")
	if version == 1 {
		quota, period = read("cpu.cfs_quota_us"), read("cpu.cfs_period_us")
	}
	q, err := strconv.ParseInt(quota, 10, 64)
	if err != nil || q <= 0 {
		return 0, false
	}
	p, err := strconv.ParseInt(period, 10, 64)
	if err != nil || p <= 0 {
		return 0, false
	}
	return int((q-1)/p) + 1, true
}
