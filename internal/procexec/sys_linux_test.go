package procexec_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
)

// descriptors returns the number of open descriptors of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// childProcesses returns the children of this process, zombies included.
func childProcesses(t *testing.T) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		if err != nil {
			continue // the process has exited
		}
		fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if string(fields[1]) == strconv.Itoa(os.Getpid()) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// openPidfd returns a descriptor that becomes readable when process pid exits.
func openPidfd(t *testing.T, pid int) *os.File {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// awaitExit waits until a process has exited.
func awaitExit(t *testing.T, pidfd *os.File) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(testTimeout.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			t.Fatal(err)
		case n == 0:
			t.Fatal("the process is still running")
		default:
			return
		}
	}
}

// A process inherits exactly the descriptors that it should.
func TestCommand_PassesOnlyItsDescriptors(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, procexec.Options{Guard: []string{self(t)}})
	shutdown := newNotification(t)
	const list = `i=0; while [ $i -lt 200 ]; do [ -e /proc/self/fd/$i ] && printf '%d ' $i; i=$((i+1)); done`
	inherited, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", list).Output()
	if err != nil {
		t.Fatal(err)
	}
	others := strings.TrimPrefix(string(inherited), "0 1 2 ") // descriptors that this test has inherited itself
	for _, tc := range []struct {
		name string
		opts procexec.CommandOptions
		want string
	}{
		{"without notifications", procexec.CommandOptions{}, "0 1 2 3 "},
		{"with both", procexec.CommandOptions{Shutdown: shutdown, Termination: newNotification(t)}, "0 1 2 3 4 5 "},
		{"with one", procexec.CommandOptions{Shutdown: shutdown}, "0 1 2 3 4 "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.opts.Argv = sh(list)
			want := `"` + tc.want + others + `"`
			var all sync.WaitGroup
			for slotIndex := range 8 {
				all.Go(func() {
					c := newCommand(t, l, tc.opts)
					if r, err := c.Run(procexec.Task{ID: "t", Data: []byte("1"), Slot: slotIndex}, procexec.StopSignals{}); err != nil || string(r.Result) != want {
						t.Errorf("%s %v, want %s", r.Result, err, want)
					}
				})
			}
			all.Wait()
		})
	}
}

// The memory limit also applies to a child that the task starts immediately. The test runs many
// tasks at the same time, because a limit that is set too late would show only on a busy machine.
func TestCommand_LimitsMemory(t *testing.T) {
	t.Parallel()
	const slots = 16
	l := newLauncher(t, procexec.Options{})
	limited := newCommand(t, l, procexec.CommandOptions{Argv: sh(`(ulimit -v); ulimit -v`), MemoryLimit: 1 << 30})
	free := newCommand(t, l, procexec.CommandOptions{Argv: sh(`ulimit -v`)})
	var all sync.WaitGroup
	for slotIndex := range slots {
		all.Go(func() {
			for range 10 {
				if r, err := limited.Run(procexec.Task{ID: "t", Data: []byte("1"), Slot: slotIndex}, procexec.StopSignals{}); err != nil || string(r.Result) != `"1048576\n1048576"` {
					t.Errorf("limited: %+v %v", r, err)
				}
			}
		})
	}
	all.Wait()
	if r := runWith(t, free, task, procexec.StopSignals{}); string(r.Result) == `"1048576"` {
		t.Errorf("without a limit: %s", r.Result)
	}
}

// If the memory limit is too small for the program itself, the process is killed and does not hang.
func TestCommand_MemoryLimitBelowProgramSize(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, procexec.Options{})
	c := newCommand(t, l, procexec.CommandOptions{Argv: sh(`exit 0`), MemoryLimit: 4096})
	if r := receive(t, async(t, c, task, procexec.StopSignals{}), "the result"); r.Kind != outcome.Exited {
		t.Errorf("%+v", r)
	}
}

// A task with a memory limit can be killed like a task without one.
func TestCommand_KillsTaskWithMemoryLimit(t *testing.T) {
	t.Parallel()
	lifeline := newLifeline(t)
	l := newLauncher(t, procexec.Options{})
	stderr := newLines()
	kill := make(chan struct{})
	c := newCommand(t, l, procexec.CommandOptions{Argv: sh(ignoreSIGTERM, lifeline.path), MemoryLimit: 1 << 30, Stderr: stderr.add})
	results := async(t, c, task, procexec.StopSignals{Kill: kill})
	stderr.expect(t, "ready")
	close(kill)
	if r := receive(t, results, "the result"); r.Kind != outcome.Interrupted {
		t.Errorf("%+v", r)
	}
	lifeline.awaitClosed(t)
}

// poll reports whether one of the descriptors fds is ready now.
func poll(t *testing.T, fds []unix.PollFd) bool {
	t.Helper()
	n, err := unix.Poll(fds, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

// Processes that many slots start at the same time leave no children or descriptors behind.
func TestLauncher_ConcurrentStartsLeaveNothing(t *testing.T) {
	const slots, each = 64, 20
	isolated(t, func(t *testing.T) {
		use := func() {
			l, err := procexec.NewLauncher(procexec.Options{Guard: []string{self(t)}, Subreaper: true})
			if err != nil {
				t.Fatal(err)
			}
			c := newCommand(t, l, procexec.CommandOptions{Argv: sh(`sleep 1000 & echo "$CTWORKER_TASK_ID"; exit $1`, "{data.code}")})
			var all sync.WaitGroup
			var ran atomic.Int64
			for slotIndex := range slots {
				all.Go(func() {
					for i := range each {
						want := procexec.TaskResult{Kind: outcome.Completed, Result: []byte(`"t"`)}
						data := `{"code":0}`
						if i%2 == 1 {
							want = procexec.TaskResult{Kind: outcome.Exited, ExitCode: 7}
							data = `{"code":7}`
						}
						r, err := c.Run(procexec.Task{ID: "t", Data: []byte(data), Slot: slotIndex}, procexec.StopSignals{})
						if err != nil || r.Kind != want.Kind || r.ExitCode != want.ExitCode || string(r.Result) != string(want.Result) {
							t.Errorf("%+v, error %v", r, err)
						}
						ran.Add(1)
					}
				})
			}
			all.Wait()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if ran.Load() != slots*each {
				t.Errorf("%d tasks ran, want %d", ran.Load(), slots*each)
			}
		}
		first := newLauncher(t, procexec.Options{}) // the first Launcher makes the Go runtime open its own descriptors
		runWith(t, newCommand(t, first, procexec.CommandOptions{Argv: sh(`:`)}), task, procexec.StopSignals{})
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		before := descriptors(t)
		use()
		if after := descriptors(t); after != before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
		if children := childProcesses(t); len(children) > 0 {
			t.Errorf("children %v are still there", children)
		}
	})
}
