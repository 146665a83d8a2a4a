package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// parts divides the CPU time of tasks in worker processes into parts. function is the start of a
// function name, without the path of its package. A sample belongs to the first part whose function
// is in the sample's stack.
var parts = []struct{ name, function string }{ //nolint:gochecknoglobals // a table
	{"garbage collector", "runtime.gcBgMarkWorker"},
	{"garbage collector", "runtime.bgsweep"},
	{"garbage collector", "runtime.bgscavenge"},
	{"garbage collector", "runtime.gcAssistAlloc"},
	{"reading the task file", "taskfile."},
	{"in-flight tracking", "pipeline.(*Run).pump"},
	{"sending tasks to processes", "procexec.(*scheduler).feed"},
	{"waiting for replies, and copying them", "procexec.(*conn).next"},
	{"passing results on", "pipeline.Send"},
	{"handling replies", "procexec.(*slot).read"},
	{"writing events", "eventlog."},
	{"settling and counting", "stages.(*settler)"},
	{"settling and counting", "stages.nextBatch"},
	{"settling and counting", "stages.settle"},
	{"Go scheduler", "runtime."},
}

const other = "other"

// breakdown prints the CPU time per task of each part. path is a CPU profile of a run. tasks is the
// number of tasks of the run.
func breakdown(path string, tasks float64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	p, err := profile.Parse(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	times, total := divide(p)
	if total == 0 {
		return errors.New(path + ": the profile has no samples")
	}
	fmt.Printf("%-40s %10s %8s\n", "", "ns per task", "share")
	printed := map[string]bool{}
	for _, part := range append(parts, struct{ name, function string }{other, ""}) {
		if !printed[part.name] {
			printed[part.name] = true
			took := times[part.name]
			fmt.Printf("%-40s %10.0f %7.0f%%\n", part.name, float64(took)/tasks, 100*took.Seconds()/total.Seconds())
		}
	}
	return nil
}

// divide returns the CPU time of each part, and the total.
func divide(p *profile.Profile) (times map[string]time.Duration, total time.Duration) {
	times = map[string]time.Duration{}
	for _, sample := range p.Sample {
		took := time.Duration(sample.Value[len(sample.Value)-1]) // the last value of a CPU profile is in nanoseconds
		times[partOf(sample)] += took
		total += took
	}
	return times, total
}

func partOf(sample *profile.Sample) string {
	var stack []string
	for _, location := range sample.Location {
		for _, line := range location.Line {
			stack = append(stack, plainName(line.Function.Name))
		}
	}
	for _, part := range parts {
		for _, function := range stack {
			if strings.HasPrefix(function, part.function) {
				return part.name
			}
		}
	}
	return other
}

// plainName strips type arguments and the path of the package from the name of a function.
func plainName(function string) string {
	if i := strings.IndexByte(function, '['); i >= 0 {
		if j := strings.LastIndexByte(function, ']'); j > i {
			function = function[:i] + function[j+1:]
		}
	}
	return function[strings.LastIndexByte(function, '/')+1:]
}
