package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/app"
)

// sleeper is a task that reports its own id and that of a grandchild, and then
// sleeps. $1 is the fifo.
const sleeper = `sleep 1000 & echo $! > "$1"; echo $$ > "$1"; wait`

// stubborn is the same, but neither process ends at SIGTERM.
const stubborn = `trap "" TERM; sleep 1000 & echo $! > "$1"; echo $$ > "$1"; while :; do wait; done`

// midRun starts ctworker with eight of its tasks running, and returns the ids of
// all their processes.
func midRun(t *testing.T, script string, flags ...string) (*invocation, []int) {
	t.Helper()
	dir := withTasks(t, 20)
	path, lines := fifo(t, dir)
	args := append([]string{"run", "--task-file", "tasks.json", "-j", "8"}, flags...)
	in := prepare(t, dir, append(args, "--", "sh", "-c", script, "sh", path)...).start()
	return in, pids(t, lines, 16)
}

func TestInterruptLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, script string
		signals      []os.Signal
		flags        []string
		want         int
	}{
		{"SIGINT, then the grace is over", sleeper, []os.Signal{syscall.SIGINT}, []string{"--shutdown-grace-period", "0.1"}, 130},
		{"SIGTERM, then the grace is over", sleeper, []os.Signal{syscall.SIGTERM}, []string{"--shutdown-grace-period", "0"}, 143},
		{"SIGHUP", sleeper, []os.Signal{syscall.SIGHUP}, []string{"--shutdown-grace-period", "0"}, 129},
		{"tasks that ignore SIGTERM", stubborn, []os.Signal{syscall.SIGTERM}, []string{"--shutdown-grace-period", "0", "--kill-delay", "0.2"}, 143},
		{"a second SIGINT", stubborn, []os.Signal{syscall.SIGINT, syscall.SIGINT}, []string{"--shutdown-grace-period", "1000", "--kill-delay", "1000"}, 130},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			in, all := midRun(t, tc.script, tc.flags...)
			for i, sig := range tc.signals {
				if i > 0 {
					in.awaitLog("shutting down")
				}
				in.signal(sig)
			}
			in.want(tc.want)
			gone(t, all)
			in.wantError(`"interrupted":8`)
			if events := in.events(); len(events) != 0 {
				t.Errorf("events of tasks that did not end: %+v", events)
			}
			in.tidy()
		})
	}
}

// awaitLog returns when the log holds text, and fails the test if ctworker ends without it.
func (in *invocation) awaitLog(text string) {
	in.t.Helper()
	for isOver := false; ; {
		log, grown := in.stderr.growth()
		if strings.Contains(log, text) {
			return
		}
		if isOver {
			in.t.Fatalf("ctworker ended without %q:\n%s", text, log)
		}
		select {
		case <-grown:
		case <-in.ended:
			isOver = true
		}
	}
}

// tidy fails the test if ctworker has left something in TMPDIR.
func (in *invocation) tidy() {
	in.t.Helper()
	for _, v := range in.cmd.Env {
		if dir, ok := strings.CutPrefix(v, "TMPDIR="); ok {
			if left, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(left) > 0 {
				in.t.Errorf("left behind: %v", left)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
				in.t.Errorf("left behind: %v", left)
			}
		}
	}
}

// Running tasks may finish within the grace period; then nothing was lost, but
// the file was not read to its end.
func TestInterruptLetsTasksFinish(t *testing.T) {
	t.Parallel()
	// The task ends when the shutdown notice has come: by the file, and by the
	// descriptor, which it reads, against the rules.
	script := `sleep 1000 & echo $! > "$1"; echo $$ > "$1"
		read x <&4; while [ ! -e "$CTWORKER_SHUTDOWN_FILE" ]; do :; done; kill $!; echo saw it`
	in, all := midRun(t, script)
	in.signal(syscall.SIGINT)
	in.want(130)
	gone(t, all)
	for id, e := range in.byTask() {
		if e.Type != "task_completed" || string(e.Result) != `"saw it"` {
			t.Errorf("%s: %+v", id, e)
		}
	}
	if n := len(in.byTask()); n != 8 {
		t.Errorf("%d tasks finished, want 8", n)
	}
	in.tidy()

	// Another run goes on where this one stopped: no task is left out, and none
	// is run twice.
	in.wantError(`"resume_tasks_to_skip":8`)
	prepare(t, in.dir, "run", "--task-file", "tasks.json", "--tasks-to-skip", "8", "--", "true").start().want(app.ExitOK)
	if n := len(in.byTask()); n != 20 {
		t.Errorf("%d tasks were run, want 20", n)
	}
}

// While the machine is short of descriptors, one warning says so, and a signal
// ends the waiting: nothing is started after it.
func TestInterruptWhileShortOfDescriptors(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 20)
	in := prepare(t, dir)
	self := in.cmd.Path
	in.cmd.Path, in.cmd.Args = "/bin/sh", []string{"sh", "-c", `ulimit -n 24; exec "$@"`, "sh", self, "run", "--task-file", "tasks.json", "-j", "20", "--", "sleep", "1000"}
	in.start()
	in.awaitLog("cannot be started now")
	in.signal(syscall.SIGINT)
	in.awaitLog("shutting down")
	in.signal(syscall.SIGINT)
	in.want(130)
	if n := len(in.byTask()); n != 0 {
		t.Errorf("%d events", n)
	}
}

// A task that ended in time while ctworker was stopped, as by Ctrl-Z, has ended in
// time.
func TestTaskEndsWhileStopped(t *testing.T) {
	t.Parallel()
	const maxRuntime = 2 * time.Second
	dir := withTasks(t, 1)
	path, lines := fifo(t, dir)
	in := prepare(t, dir, "run", "--task-file", "tasks.json", "--max-runtime", fmt.Sprint(maxRuntime.Seconds()), "--",
		"sh", "-c", `echo $$ > "$1"; while [ ! -e may-end ]; do sleep 0.01; done`, "sh", path).start()
	all := pids(t, lines, 1)
	in.signal(syscall.SIGSTOP)
	write(t, dir, "may-end", "")
	gone(t, all)
	<-time.After(maxRuntime) // has to pass, while nothing runs
	in.signal(syscall.SIGCONT)
	in.want(app.ExitOK)
	if e := in.byTask()["t0"]; e.Type != "task_completed" {
		t.Errorf("event %+v", e)
	}
}

// A terminal that closes sends SIGHUP more than once. The tasks have their grace
// period all the same.
func TestSeveralHangups(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 20)
	path, lines := fifo(t, dir)
	in := prepare(t, dir, "run", "--task-file", "tasks.json", "-j", "8", "--", "sh", "-c",
		`echo $$ > "$1"; while [ ! -e may-end ]; do sleep 0.01; done`, "sh", path).start()
	all := pids(t, lines, 8)
	in.signal(syscall.SIGHUP)
	in.awaitLog("shutting down")
	in.signal(syscall.SIGHUP)
	in.signal(syscall.SIGHUP)
	write(t, dir, "may-end", "")
	in.want(129)
	gone(t, all)
	if n := len(in.byTask()); n != 8 {
		t.Errorf("%d tasks finished, want 8", n)
	}
}

// A signal while the last tasks finish interrupts nothing.
func TestInterruptAtTheVeryEnd(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 2)
	path, lines := fifo(t, dir)
	in := prepare(t, dir, "run", "--task-file", "tasks.json", "-j", "3", "--", "sh", "-c",
		`echo $$ > "$1"; while [ ! -e "$CTWORKER_SHUTDOWN_FILE" ]; do :; done`, "sh", path).start()
	pids(t, lines, 2)
	in.signal(syscall.SIGTERM)
	in.want(app.ExitOK)
	if n := len(in.byTask()); n != 2 {
		t.Errorf("%d events", n)
	}
}

// kill -9 of ctworker leaves no process behind, in its tasks' groups or out of
// them, and no file.
func TestKilledEngine(t *testing.T) {
	t.Parallel()
	t.Run("grandchildren in the group", func(t *testing.T) {
		t.Parallel()
		in, all := midRun(t, stubborn)
		in.signal(syscall.SIGKILL)
		in.want(-1)
		gone(t, all)
	})
	t.Run("grandchildren in a session of their own", func(t *testing.T) {
		t.Parallel()
		in, all := midRun(t, `setsid sh -c 'echo $$ > "$1"; exec sleep 1000' sh "$1" & echo $$ > "$1"; wait`)
		in.signal(syscall.SIGKILL)
		in.want(-1)
		gone(t, all)
	})
}

func TestInterruptWhileStandardInputIsSilent(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	dir := t.TempDir()
	path, lines := fifo(t, dir)
	in := prepare(t, dir, "run", "--task-file", "-", "--", "sh", "-c", `echo $$ > "$1"`, "sh", path)
	in.cmd.Stdin = r
	in.start()
	_ = r.Close()
	if _, err := w.WriteString(`{"task_id":"a","data":{}}` + "\n"); err != nil {
		t.Fatal(err)
	}
	pids(t, lines, 1)
	in.signal(syscall.SIGTERM)
	in.want(143) // there might have been more
	if n := len(in.byTask()); n != 1 {
		t.Errorf("%d events", n)
	}
}

// gone waits until each process has ended, and fails the test if one has not
// within ten seconds.
func gone(t *testing.T, all []int) {
	t.Helper()
	for _, pid := range all {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
		}
		_ = unix.Close(fd)
		if n != 1 || err != nil {
			t.Errorf("process %d is alive (%v)", pid, err)
		}
	}
}
