package digest

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
)

// Machine measures how much of this machine is in use. It needs /proc, and returns unknown values on
// other systems than Linux. The zero value is ready to use. It is not safe for concurrent use.
type Machine struct {
	busy, total uint64 // CPU time at the last call, in ticks
}

// Measure sets the fields of d about the machine. CPU covers the time since the previous call.
func (m *Machine) Measure(d *Digest) {
	stat, _ := os.ReadFile("/proc/stat") // without this file, the values are unknown
	meminfo, _ := os.ReadFile("/proc/meminfo")
	d.CPU = m.cpu(stat)
	d.MemoryUsed, d.MemoryTotal = memory(meminfo)
}

// cpu returns the used share of the CPU time since the previous call, in percent; -1 if it is unknown.
// stat is the content of /proc/stat.
func (m *Machine) cpu(stat []byte) float64 {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 6 || fields[0] != "cpu" {
		return -1
	}
	var busy, total uint64
	for i, text := range fields[1:min(len(fields), 9)] { // the fields after steal are part of user and nice
		ticks, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return -1
		}
		total += ticks
		if i != 3 && i != 4 { // idle and iowait
			busy += ticks
		}
	}
	last := *m
	m.busy, m.total = busy, total
	if last.total == 0 || total <= last.total || busy < last.busy {
		return -1
	}
	return 100 * float64(busy-last.busy) / float64(total-last.total)
}

// memory returns the used and the total memory in bytes; 0 if they are unknown. meminfo is the content
// of /proc/meminfo.
func memory(meminfo []byte) (used, total int64) {
	values := map[string]int64{}
	lines := bufio.NewScanner(bytes.NewReader(meminfo))
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), ":")
		if !ok || name != "MemTotal" && name != "MemAvailable" {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil || kib < 0 || kib > 1<<50 {
			return 0, 0
		}
		values[name] = kib << 10
	}
	total, available := values["MemTotal"], values["MemAvailable"]
	if total == 0 || available > total {
		return 0, 0
	}
	return total - available, total
}
