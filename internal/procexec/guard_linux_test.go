package procexec_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/procexec"
)

// After an engine was killed by SIGKILL, the guard kills all processes that the tasks started, in
// or outside of their process groups. It removes the directory of the notifications, and exits.
func TestGuard_CleansUpAfterKilledEngine(t *testing.T) {
	t.Parallel()
	lifeline := newLifeline(t)
	dir := filepath.Join(t.TempDir(), "notifications")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self(t), lifeline.path, dir)
	cmd.Env = append(os.Environ(), childVar+"=engine")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	guardPid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	guard := openPidfd(t, guardPid)
	lifeline.checkOpen(t)
	if _, err := os.Stat(filepath.Join(dir, procexec.ShutdownFile)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the error is that the process was killed
	lifeline.awaitClosed(t)
	awaitExit(t, guard)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory of the notifications still exists: %v", err)
	}
}

// Close stops the guard. The guard then does not remove the directory of the notifications.
func TestGuard_DoesNothingAfterClose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, procexec.ShutdownFile)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := procexec.NewLauncher(procexec.Options{Guard: []string{self(t)}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	guard := openPidfd(t, procexec.GuardPid(l))
	c := newCommand(t, l, procexec.CommandOptions{Argv: sh(`echo ok`)})
	if r := runWith(t, c, task, procexec.StopSignals{}); string(r.Result) != `"ok"` {
		t.Errorf("%+v", r)
	}
	if poll(t, []unix.PollFd{{Fd: int32(guard.Fd()), Events: unix.POLLIN}}) {
		t.Error("the guard exited before Close")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	awaitExit(t, guard)
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// The guard has its own session, so signals from the terminal do not reach it. If the guard is
// killed, a warning is logged and tasks still run.
func TestGuard_IsInItsOwnSessionAndOptional(t *testing.T) {
	isolated(t, func(t *testing.T) {
		logged := make(logChan, 10)
		l, err := procexec.NewLauncher(procexec.Options{Guard: []string{self(t)}, Subreaper: true, Log: zerolog.New(logged)})
		if err != nil {
			t.Fatal(err)
		}
		pid := procexec.GuardPid(l)
		guard := openPidfd(t, pid)
		if sid, err := unix.Getsid(pid); err != nil || sid == 0 {
			t.Errorf("session %d, %v", sid, err)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		awaitExit(t, guard)
		if line := receive(t, logged, "a warning"); !strings.Contains(line, "guard process exited") {
			t.Errorf("logged %q", line)
		}
		c := newCommand(t, l, procexec.CommandOptions{Argv: sh(`echo ok`)})
		if r := runWith(t, c, task, procexec.StopSignals{}); string(r.Result) != `"ok"` {
			t.Errorf("%+v", r)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if children := childProcesses(t); len(children) > 0 {
			t.Errorf("children %v are still there", children)
		}
	})
}

// logChan receives the lines of a log.
type logChan chan string

func (c logChan) Write(p []byte) (int, error) {
	c <- string(p)
	return len(p), nil
}

// Tasks run even if the guard cannot be started.
func TestNewLauncher_ContinuesWithoutGuard(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, procexec.Options{Guard: []string{"/nowhere/at/all"}})
	c := newCommand(t, l, procexec.CommandOptions{Argv: sh(`echo ok`)})
	if r := runWith(t, c, task, procexec.StopSignals{}); string(r.Result) != `"ok"` {
		t.Errorf("%+v", r)
	}
}
