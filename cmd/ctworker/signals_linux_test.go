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

// sleepingTask is a task that reports the pids of its child and of itself on the fifo $1, and
// then sleeps.
const sleepingTask = `sleep 1000 & echo $! > "$1"; echo $$ > "$1"; wait`

// ignoresSIGTERM is like sleepingTask, but both processes ignore SIGTERM.
const ignoresSIGTERM = `trap "" TERM; sleep 1000 & echo $! > "$1"; echo $$ > "$1"; while :; do wait; done`

// startWithRunningTasks starts ctworker, waits until eight tasks are running, and returns the pids
// of their processes.
func startWithRunningTasks(t *testing.T, script string, flags ...string) (*invocation, []int) {
	t.Helper()
	dir := withTasks(t, 20)
	path, lines := fifo(t, dir)
	args := append([]string{"run", "--task-file", "tasks.json", "-j", "8"}, flags...)
	in := prepare(t, dir, append(args, "--", "sh", "-c", script, "sh", path)...).start()
	return in, pids(t, lines, 16)
}

func TestSignal_LeavesNoProcess(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, script string
		signals      []os.Signal
		flags        []string
		want         int
	}{
		{"SIGINT, grace period expires", sleepingTask, []os.Signal{syscall.SIGINT}, []string{"--shutdown-grace-period", "0.1"}, 130},
		{"SIGTERM, grace period expires", sleepingTask, []os.Signal{syscall.SIGTERM}, []string{"--shutdown-grace-period", "0"}, 143},
		{"SIGHUP", sleepingTask, []os.Signal{syscall.SIGHUP}, []string{"--shutdown-grace-period", "0"}, 129},
		{"tasks that ignore SIGTERM", ignoresSIGTERM, []os.Signal{syscall.SIGTERM}, []string{"--shutdown-grace-period", "0", "--kill-delay", "0.2"}, 143},
		{"a second SIGINT", ignoresSIGTERM, []os.Signal{syscall.SIGINT, syscall.SIGINT}, []string{"--shutdown-grace-period", "1000", "--kill-delay", "1000"}, 130},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			in, all := startWithRunningTasks(t, tc.script, tc.flags...)
			for i, sig := range tc.signals {
				if i > 0 {
					in.awaitLog("shutting down")
				}
				in.signal(sig)
			}
			in.want(tc.want)
			wantExited(t, all)
			in.wantError(`"interrupted":8`)
			if events := in.events(); len(events) != 0 {
				t.Errorf("events of tasks that did not finish: %+v", events)
			}
			in.wantNoFilesLeft()
		})
	}
}

// awaitLog waits until the log contains text, and fails the test if ctworker exits first.
func (in *invocation) awaitLog(text string) {
	in.t.Helper()
	for hasExited := false; ; {
		log, grown := in.stderr.growth()
		if strings.Contains(log, text) {
			return
		}
		if hasExited {
			in.t.Fatalf("ctworker exited before it logged %q:\n%s", text, log)
		}
		select {
		case <-grown:
		case <-in.exited:
			hasExited = true
		}
	}
}

// wantNoFilesLeft fails the test if ctworker has left files in TMPDIR.
func (in *invocation) wantNoFilesLeft() {
	in.t.Helper()
	for _, v := range in.cmd.Env {
		if dir, ok := strings.CutPrefix(v, "TMPDIR="); ok {
			if left, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(left) > 0 {
				in.t.Errorf("files left in TMPDIR: %v", left)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
				in.t.Errorf("files left in TMPDIR: %v", left)
			}
		}
	}
}

// Running tasks may finish within the grace period. The exit code is that of the signal, because
// the file was not read to its end.
func TestSignal_TasksFinishInGracePeriod(t *testing.T) {
	t.Parallel()
	// The task waits for both shutdown notifications: the descriptor, which it reads although tasks
	// should only poll it, and the file.
	script := `sleep 1000 & echo $! > "$1"; echo $$ > "$1"
		read x <&4; while [ ! -e "$CTWORKER_SHUTDOWN_FILE" ]; do :; done; kill $!; echo notified`
	in, all := startWithRunningTasks(t, script)
	in.signal(syscall.SIGINT)
	in.want(130)
	wantExited(t, all)
	for id, e := range in.byTask() {
		if e.Type != "task_completed" || string(e.Result) != `"notified"` {
			t.Errorf("task %s: unexpected event: %+v", id, e)
		}
	}
	if n := len(in.byTask()); n != 8 {
		t.Errorf("%d tasks finished, want 8", n)
	}
	in.wantNoFilesLeft()

	// A second run continues where the first run stopped, and each task runs once.
	in.wantError(`"continue_with":"`, " run --resume --task-file tasks.json ")
	prepare(t, in.dir, "run", "--resume", "--task-file", "tasks.json", "--", "true").start().want(app.ExitOK)
	if n := len(in.byTask()); n != 20 {
		t.Errorf("%d tasks were run, want 20", n)
	}
}

// While ctworker waits for free descriptors, it logs one warning. A signal ends the wait, and no
// further task is started.
func TestSignal_WhileOutOfDescriptors(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 20)
	in := prepare(t, dir)
	self := in.cmd.Path
	in.cmd.Path, in.cmd.Args = "/bin/sh", []string{"sh", "-c", `ulimit -n 24; exec "$@"`, "sh", self, "run", "--task-file", "tasks.json", "-j", "20", "--", "sleep", "1000"}
	in.start()
	in.awaitLog("could not start a process")
	in.signal(syscall.SIGINT)
	in.awaitLog("shutting down")
	in.signal(syscall.SIGINT)
	in.want(130)
	if n := len(in.byTask()); n != 0 {
		t.Errorf("%d events, want none", n)
	}
}

// If a task finished in time while ctworker was suspended, for example by Ctrl-Z, the task has not timed out.
func TestSuspended_TaskFinishesInTime(t *testing.T) {
	t.Parallel()
	const maxRuntime = 2 * time.Second
	dir := withTasks(t, 1)
	path, lines := fifo(t, dir)
	in := prepare(t, dir, "run", "--task-file", "tasks.json", "--max-runtime", fmt.Sprint(maxRuntime.Seconds()), "--",
		"sh", "-c", `echo $$ > "$1"; while [ ! -e may-end ]; do sleep 0.01; done`, "sh", path).start()
	all := pids(t, lines, 1)
	in.signal(syscall.SIGSTOP)
	write(t, dir, "may-end", "")
	wantExited(t, all)
	<-time.After(maxRuntime) // the time limit passes while ctworker is suspended
	in.signal(syscall.SIGCONT)
	in.want(app.ExitOK)
	if e := in.byTask()["t0"]; e.Type != "task_completed" {
		t.Errorf("unexpected event: %+v", e)
	}
}

// A closing terminal sends SIGHUP more than once. Tasks still have their grace period.
func TestSignal_RepeatedSIGHUP(t *testing.T) {
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
	wantExited(t, all)
	if n := len(in.byTask()); n != 8 {
		t.Errorf("%d tasks finished, want 8", n)
	}
}

// If the last tasks finish after a signal, the run has finished with exit code 0.
func TestSignal_DuringLastTasks(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 2)
	path, lines := fifo(t, dir)
	in := prepare(t, dir, "run", "--task-file", "tasks.json", "-j", "3", "--", "sh", "-c",
		`echo $$ > "$1"; while [ ! -e "$CTWORKER_SHUTDOWN_FILE" ]; do :; done`, "sh", path).start()
	pids(t, lines, 2)
	in.signal(syscall.SIGTERM)
	in.want(app.ExitOK)
	if n := len(in.byTask()); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

// After SIGKILL of ctworker no process of a task survives, inside or outside of its process group.
func TestKilled_LeavesNoProcess(t *testing.T) {
	t.Parallel()
	t.Run("grandchildren in the group", func(t *testing.T) {
		t.Parallel()
		in, all := startWithRunningTasks(t, ignoresSIGTERM)
		in.signal(syscall.SIGKILL)
		in.want(-1)
		wantExited(t, all)
	})
	t.Run("grandchildren in a session of their own", func(t *testing.T) {
		t.Parallel()
		in, all := startWithRunningTasks(t, `setsid sh -c 'echo $$ > "$1"; exec sleep 1000' sh "$1" & echo $$ > "$1"; wait`)
		in.signal(syscall.SIGKILL)
		in.want(-1)
		wantExited(t, all)
	})
}

func TestSignal_WhileReadingStandardInput(t *testing.T) {
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
	in.want(143) // standard input may have had more tasks
	if n := len(in.byTask()); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

// wantExited waits until each process has exited, and fails the test if a process has not exited
// after ten seconds.
func wantExited(t *testing.T, all []int) {
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
			t.Errorf("process %d has not exited (%v)", pid, err)
		}
	}
}
