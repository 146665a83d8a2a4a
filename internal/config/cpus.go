package config

import (
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// UsableCPUs returns how many CPUs this process can keep busy: the CPUs it may run on, or fewer
// if a control group limits its CPU time; at least 1. A limit of 2.5 CPUs counts as 3. Without
// control groups, or if their files cannot be read, there is no limit.
//
// GOMAXPROCS cannot be used instead: its default is never below 2 if a control group sets the
// limit, and the user can change it (https://pkg.go.dev/runtime#GOMAXPROCS).
func UsableCPUs() int {
	// NumCPU respects the CPU affinity but not control groups.
	return usableCPUs(os.DirFS("/"), runtime.NumCPU())
}

// usableCPUs is UsableCPUs for the file system root and a number of CPUs.
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
		// A group's limit holds for all groups below it.
		for dir := range m.upward(own[m.version]) {
			if limit, ok := cpuLimit(root, dir, m.version); ok {
				cpus = min(cpus, limit)
			}
		}
	}
	return max(cpus, 1)
}

// parseGroups returns the path of this process's control group, within the
// hierarchy that rules over CPU time, by the version of control groups.
// A line is hierarchy-ID:controllers:path, and "0::path" for version 2; see
// cgroups(7).
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

// A mount is a place at which a hierarchy of control groups is seen.
type mount struct {
	version int
	root    string // the group seen at point
	point   string
}

// parseMount reads a line of mountinfo, see proc_pid_mountinfo(5): root and
// mount point are its fields 4 and 5; after " - " come the type, the source and
// the options, among which version 1 has the controllers.
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

// unescape undoes how mountinfo writes the characters it separates with.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// upward yields the directories of group and of all that it is in, as far as
// the mount shows them. A group outside of what it shows, as in a container
// that sees its own group only, counts as the mount's root.
func (m mount) upward(group string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if group == "" {
			return // this process is in no such hierarchy
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

// cpuLimit returns the number of CPUs that a group may use, rounded up, if it has a limit. In
// version 2, cpu.max contains "quota period"; in version 1, each has a file of its own. A quota
// of "max" or -1 means unlimited.
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
