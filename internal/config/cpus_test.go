package config

import (
	"testing"
	"testing/fstest"
)

const (
	v2Mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	v1Mount = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
	others  = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n" +
		"35 31 0:32 / /sys/fs/cgroup/cpuset rw shared:11 - cgroup cgroup rw,cpuset\nnonsense\n\n"
)

func TestUsableCPUs(t *testing.T) {
	t.Parallel()
	const own, mountinfo = "proc/self/cgroup", "proc/self/mountinfo"
	for _, c := range []struct {
		name  string
		files map[string]string
		cpus  int // by affinity; 8 if 0
		want  int
	}{
		{name: "no control groups", want: 8},
		{name: "no CPUs", cpus: -1, want: 1},
		{name: "no mounts", files: map[string]string{own: "0::/\n"}, want: 8},
		{name: "no limit", want: 8,
			files: map[string]string{own: "0::/a\n", mountinfo: others + v2Mount, "sys/fs/cgroup/a/cpu.max": "max 100000\n"}},
		{name: "whole", want: 2,
			files: map[string]string{own: "0::/a\n", mountinfo: others + v2Mount, "sys/fs/cgroup/a/cpu.max": "200000 100000\n"}},
		{name: "rounded up", want: 3,
			files: map[string]string{own: "0::/a\n", mountinfo: v2Mount, "sys/fs/cgroup/a/cpu.max": "200001 100000\n"}},
		{name: "a half", want: 1,
			files: map[string]string{own: "0::/a\n", mountinfo: v2Mount, "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}},
		{name: "more than the CPUs", want: 8,
			files: map[string]string{own: "0::/a\n", mountinfo: v2Mount, "sys/fs/cgroup/a/cpu.max": "6400000 100000\n"}},
		{name: "the group above", want: 2,
			files: map[string]string{own: "0::/a/b/c\n", mountinfo: v2Mount,
				"sys/fs/cgroup/a/b/c/cpu.max": "max 100000\n",
				"sys/fs/cgroup/a/b/cpu.max":   "400000 100000\n",
				"sys/fs/cgroup/a/cpu.max":     "200000 100000\n"}},
		{name: "another group", want: 8,
			files: map[string]string{own: "0::/a\n", mountinfo: v2Mount, "sys/fs/cgroup/ab/cpu.max": "100000 100000\n"}},
		{name: "in a container that sees its own group as the root", want: 2,
			files: map[string]string{own: "0::/\n", mountinfo: v2Mount, "sys/fs/cgroup/cpu.max": "150000 100000\n"}},
		{name: "in a container whose mount is its own group", want: 2,
			files: map[string]string{own: "0::/docker/x/job\n",
				mountinfo:                         "30 23 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
				"sys/fs/cgroup/job/cpu.max":       "max 100000\n",
				"sys/fs/cgroup/cpu.max":           "200000 100000\n",
				"sys/fs/cgroup/docker/x/cpu.max":  "100000 100000\n",
				"sys/fs/cgroup/docker/x/job/oops": ""}},
		{name: "outside of what the mount shows", want: 3,
			files: map[string]string{own: "0::/docker/xy\n",
				mountinfo:                 "30 23 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
				"sys/fs/cgroup/cpu.max":   "300000 100000\n",
				"sys/fs/cgroup/y/cpu.max": "100000 100000\n"}},
		{name: "above the root of the namespace", want: 3,
			files: map[string]string{own: "0::/../../x\n", mountinfo: v2Mount, "sys/fs/cgroup/cpu.max": "300000 100000\n"}},
		{name: "a mount with a space", want: 3,
			files: map[string]string{own: "0::/a\n", mountinfo: "30 23 0:26 / /my\\040cg rw - cgroup2 cgroup2 rw\n",
				"my cg/a/cpu.max": "300000 100000\n"}},
		{name: "a path with a colon", want: 3,
			files: map[string]string{own: "0::/a:b\n", mountinfo: v2Mount, "sys/fs/cgroup/a:b/cpu.max": "300000 100000\n"}},
		{name: "version 1", want: 3,
			files: map[string]string{own: "5:cpuset:/z\n4:cpu,cpuacct:/a\n0::/b\n", mountinfo: others + v1Mount,
				"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us":  "250000\n",
				"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
				"sys/fs/cgroup/cpu,cpuacct/z/cpu.cfs_quota_us":  "100000\n",
				"sys/fs/cgroup/cpu,cpuacct/z/cpu.cfs_period_us": "100000\n"}},
		{name: "version 1, no limit below a limit", want: 4,
			files: map[string]string{own: "4:cpu,cpuacct:/a/b\n", mountinfo: others + v1Mount,
				"sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us":  "-1\n",
				"sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
				"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us":    "400000\n",
				"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us":   "100000\n"}},
		{name: "version 1, mount of the container's own group", want: 2,
			files: map[string]string{own: "4:cpu,cpuacct:/docker/x\n",
				mountinfo:                            "33 31 0:30 /docker/x /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n",
				"cg/cpu/cpu.cfs_quota_us":            "200000\n",
				"cg/cpu/cpu.cfs_period_us":           "100000\n",
				"cg/cpu/docker/x/cpu.cfs_quota_us":   "100000\n",
				"cg/cpu/docker/x/cpu.cfs_period_us":  "100000\n",
				"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n"}},
		{name: "both versions", want: 2,
			files: map[string]string{own: "4:cpu,cpuacct:/a\n0::/b\n", mountinfo: v1Mount + v2Mount,
				"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us":  "200000\n",
				"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
				"sys/fs/cgroup/b/cpu.max":                       "300000 100000\n"}},
		{name: "nonsense", want: 8,
			files: map[string]string{own: "0::/a\nx\n:\n", mountinfo: v2Mount + "a - b\n1 2 3 4 5 - cgroup2\n",
				"sys/fs/cgroup/a/cpu.max": "100000 0\n", "sys/fs/cgroup/cpu.max": "x y\n"}},
		{name: "no period", want: 8,
			files: map[string]string{own: "0::/a\n", mountinfo: v2Mount, "sys/fs/cgroup/a/cpu.max": "100000\n"}},
		{name: "the CPUs it may run on", cpus: 2, want: 2,
			files: map[string]string{own: "0::/a\n", mountinfo: v2Mount, "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}},
	} {
		root := fstest.MapFS{}
		for name, content := range c.files {
			root[name] = &fstest.MapFile{Data: []byte(content)}
		}
		if c.cpus == 0 {
			c.cpus = 8
		}
		if got := usableCPUs(root, c.cpus); got != c.want {
			t.Errorf("%s: %d CPUs, want %d", c.name, got, c.want)
		}
	}
	if got := UsableCPUs(); got < 1 {
		t.Errorf("this computer has %d CPUs", got)
	}
}
