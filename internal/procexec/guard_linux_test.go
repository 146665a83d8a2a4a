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

// An engine that is killed by SIGKILL leaves nothing: not what its tasks have
// started in their groups or outside, nor the guard, nor the notices' directory.
func TestKilledEngineLeavesNothing(t *testing.T) {
	t.Parallel()
	life := newLife(t)
	dir := filepath.Join(t.TempDir(), "notices")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self(t), life.path, dir)
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
	guard := process(t, guardPid)
	life.goesOn(t)
	if _, err := os.Stat(filepath.Join(dir, procexec.ShutdownFile)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	life.over(t)
	awaitEnd(t, guard)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is left: %v", err)
	}
}

// In a normal end the guard is gone when Close returns, and has done nothing.
func TestGuardDoesNothingInANormalEnd(t *testing.T) {
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
	guard := process(t, procexec.GuardPid(l))
	c := newCommand(t, l, procexec.CommandOptions{Argv: sh(`echo ok`)})
	if r := runWith(t, c, task, procexec.StopSignals{}); string(r.Result) != `"ok"` {
		t.Errorf("%+v", r)
	}
	if poll(t, []unix.PollFd{{Fd: int32(guard.Fd()), Events: unix.POLLIN}}) {
		t.Error("the guard ended before Close")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	awaitEnd(t, guard)
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// The guard ignores what a terminal sends to everybody, and the engine does not
// need it.
func TestGuardAndSignals(t *testing.T) {
	isolated(t, func(t *testing.T) {
		logged := make(logChan, 10)
		l, err := procexec.NewLauncher(procexec.Options{Guard: []string{self(t)}, Subreaper: true, Log: zerolog.New(logged)})
		if err != nil {
			t.Fatal(err)
		}
		pid := procexec.GuardPid(l)
		guard := process(t, pid)
		if sid, err := unix.Getsid(pid); err != nil || sid == 0 {
			t.Errorf("session %d, %v", sid, err)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		awaitEnd(t, guard)
		if line := receive(t, logged, "a warning"); !strings.Contains(line, "guard exited") {
			t.Errorf("logged %q", line)
		}
		c := newCommand(t, l, procexec.CommandOptions{Argv: sh(`echo ok`)})
		if r := runWith(t, c, task, procexec.StopSignals{}); string(r.Result) != `"ok"` {
			t.Errorf("%+v", r)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if left := childProcesses(t); len(left) > 0 {
			t.Errorf("children %v are left", left)
		}
	})
}

// A guard that cannot be started is no reason not to run.
// logChan receives the lines of a log.
type logChan chan string

func (c logChan) Write(p []byte) (int, error) {
	c <- string(p)
	return len(p), nil
}

func TestNoGuard(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, procexec.Options{Guard: []string{"/nowhere/at/all"}})
	c := newCommand(t, l, procexec.CommandOptions{Argv: sh(`echo ok`)})
	if r := runWith(t, c, task, procexec.StopSignals{}); string(r.Result) != `"ok"` {
		t.Errorf("%+v", r)
	}
}
