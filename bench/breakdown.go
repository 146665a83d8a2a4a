package main

import (
	"fmt"
	"strings"
	"time"
)

// parts are what ctworker does for a warm task, each known by a function that all of it
// is called by; the first that fits counts.
var parts = []struct{ name, function string }{ //nolint:gochecknoglobals // a table
	{"the garbage collector", "runtime.gcBgMarkWorker"},
	{"the garbage collector", "runtime.bgsweep"},
	{"the garbage collector", "runtime.bgscavenge"},
	{"the garbage collector", "runtime.gcAssistAlloc"},
	{"reading the task file", "taskfile."},
	{"the books of what is out", "pipeline.(*Run).pump"},
	{"handing over to processes", "procexec.(*scheduler).feed"},
	{"waiting for replies, and copying them", "procexec.(*conn).next"},
	{"passing results on", "pipeline.Send"},
	{"taking replies in", "procexec.(*slot).read"},
	{"making and writing events", "eventlog."},
	{"settling, and counting", "stages.(*settler)"},
	{"settling, and counting", "stages.nextBatch"},
	{"settling, and counting", "stages.settle"},
	{"the runtime's scheduler", "runtime."},
}

// breakdown prints what each part of a profile takes a task.
func breakdown(root *frame, tasks float64) {
	times := map[string]time.Duration{}
	root.divide(times, "")
	seen := map[string]bool{}
	fmt.Printf("%-40s %10s %8s\n", "", "ns a task", "share")
	for _, p := range append(parts, struct{ name, function string }{"the rest", ""}) {
		if seen[p.name] {
			continue
		}
		seen[p.name] = true
		took := times[p.name]
		fmt.Printf("%-40s %10.0f %7.0f%%\n", p.name, float64(took)/tasks, 100*took.Seconds()/root.time.Seconds())
	}
}

// divide adds up the time of each part below a frame, of which part is the part so far.
func (f *frame) divide(times map[string]time.Duration, part string) {
	rank := len(parts)
	for i, p := range parts {
		if strings.HasPrefix(f.name, p.function) {
			rank = i
			break
		}
	}
	if rank < len(parts) && (part == "" || rank < rankOf(part)) {
		part = parts[rank].name
	}
	left := f.time
	for _, c := range f.calls {
		left -= c.time
		c.divide(times, part)
	}
	if part == "" {
		part = "the rest"
	}
	times[part] += left
}

// rankOf is the place of a part's first entry.
func rankOf(name string) int {
	for i, p := range parts {
		if p.name == name {
			return i
		}
	}
	return len(parts)
}
