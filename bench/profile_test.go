package main

import (
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

func TestDivide(t *testing.T) {
	t.Parallel()
	sample := func(ns int64, stack ...string) *profile.Sample { // innermost function first
		s := &profile.Sample{Value: []int64{1, ns}}
		for _, name := range stack {
			s.Location = append(s.Location, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: name}}}})
		}
		return s
	}
	const module = "github.com/ctworker/ctworker/"
	p := &profile.Profile{Sample: []*profile.Sample{
		sample(1, "runtime.mallocgc", module+"sources/taskfile.(*scan).step", "runtime.goexit"),
		sample(2, "syscall.write", module+"internal/procexec.(*conn).write", module+"internal/procexec.(*scheduler[go.shape.*uint8]).feed"),
		sample(4, "runtime.gcAssistAlloc", module+"sources/taskfile.(*scan).step"),
		sample(8, "runtime.futex", "runtime.schedule"),
		sample(16, "main.main"),
	}}
	times, total := divide(p)
	for part, want := range map[string]time.Duration{
		"reading the task file": 1, "sending tasks to processes": 2, "garbage collector": 4, "Go scheduler": 8, other: 16,
	} {
		if times[part] != want {
			t.Errorf("%s: %d ns, want %d", part, times[part], want)
		}
	}
	if total != 31 {
		t.Errorf("total %d ns, want 31", total)
	}
}
