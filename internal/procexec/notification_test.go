package procexec_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
)

// readable reports whether descriptor fd is readable, without reading from it.
func readable(t *testing.T, fd uintptr) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 0); err != nil {
		t.Fatal(err)
	}
	return fds[0].Revents&(unix.POLLIN|unix.POLLHUP) != 0
}

func newNotification(t *testing.T) *procexec.Notification {
	t.Helper()
	n, err := procexec.NewNotification(t.TempDir(), procexec.ShutdownFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func TestNotification_RemainsRaised(t *testing.T) {
	t.Parallel()
	n := newNotification(t)
	if readable(t, n.FD()) {
		t.Error("readable before Raise")
	}
	if _, err := os.Stat(n.Path()); err == nil {
		t.Error("the file exists before Raise")
	}
	for range 2 {
		if err := n.Raise(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		if !readable(t, n.FD()) {
			t.Errorf("not readable after %d reads", i)
		}
		if _, err := unix.Read(int(n.FD()), make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(n.Path()); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.Path()); err == nil {
		t.Error("the file exists after Close")
	}
}

func TestNotification_CloseDoesNotRaise(t *testing.T) {
	t.Parallel()
	n := newNotification(t)
	for range 2 { // Close must not close a descriptor twice, because its number may have been reused
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := n.Raise(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.Path()); err == nil {
		t.Error("Raise after Close created the file")
	}
}

func TestNotification_WakesProcessesIfFileCannotBeCreated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/removed"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	n, err := procexec.NewNotification(dir, procexec.ShutdownFile)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if first, second := n.Raise(), n.Raise(); first == nil || second == nil {
		t.Error("no error")
	}
	if !readable(t, n.FD()) {
		t.Error("the descriptor is not readable")
	}
}

func TestNewNotification_RequiresAbsoluteDirectory(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{t.TempDir() + "/none", ".", "relative"} {
		if n, err := procexec.NewNotification(dir, procexec.ShutdownFile); err == nil {
			t.Errorf("%q: no error", dir)
			_ = n.Close()
		}
	}
}

// Raise does not follow a symbolic link at the path of the file. A task can create such a link,
// because it runs as the same user.
func TestNotification_DoesNotFollowLinks(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(path, victim string) error{
		"link":     func(path, victim string) error { return os.Symlink(victim, path) },
		"dangling": func(path, victim string) error { return os.Symlink(victim+"-none", path) },
		"hardlink": func(path, victim string) error { return os.Link(victim, path) },
		"fifo":     func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"folder":   func(path, _ string) error { return os.MkdirAll(path+"/full", 0o700) },
		"file":     func(path, _ string) error { return os.WriteFile(path, []byte("task's"), 0o600) },
		"linked directory": func(path, victim string) error {
			dir := filepath.Dir(path)
			return errors.Join(os.Rename(dir, dir+"-moved"), os.Symlink(filepath.Dir(victim), dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outside := t.TempDir()
			victim := filepath.Join(outside, procexec.ShutdownFile)
			if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "run")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			n, err := procexec.NewNotification(dir, procexec.ShutdownFile)
			if err != nil {
				t.Fatal(err)
			}
			if err := spoil(n.Path(), victim); err != nil {
				t.Fatal(err)
			}
			if err := n.Raise(); err != nil {
				t.Error(err)
			}
			if name != "linked directory" {
				if info, err := os.Lstat(n.Path()); err != nil || !info.Mode().IsRegular() || info.Size() != 0 {
					t.Errorf("file %v, error %v, want an empty regular file", info, err)
				}
			}
			if err := n.Close(); err != nil {
				t.Error(err)
			}
			entries, err := os.ReadDir(outside)
			if err != nil || len(entries) != 1 {
				t.Errorf("files outside of the directory: %v, error %v, want 1", entries, err)
			}
			if content, err := os.ReadFile(victim); err != nil || string(content) != "precious" {
				t.Errorf("the file outside contains %q, error %v, want it unchanged", content, err)
			}
		})
	}
}

// A Notification reaches every process: two processes that run during Raise, and a process that
// starts later, after another process has read the byte from the pipe.
func TestNotification_ReachesEveryProcess(t *testing.T) {
	t.Parallel()
	n, other := newNotification(t), newNotification(t)
	stderr := newLines()
	l := newLauncher(t, procexec.Options{})
	c := newCommand(t, l, procexec.CommandOptions{
		Argv: sh(`
			[ -e "$CTWORKER_SHUTDOWN_FILE" ] && echo there
			[ -e "$CTWORKER_TERMINATION_FILE" ] && echo wrong
			echo waiting >&2
			read x <&"$CTWORKER_SHUTDOWN_FD"
			[ "$CTWORKER_SHUTDOWN_FD $CTWORKER_TERMINATION_FD" = "4 5" ] || echo "$CTWORKER_TERMINATION_FD"
			exit 0`),
		Shutdown: n, Termination: other, Stderr: stderr.add,
	})
	first, second := async(t, c, task, procexec.StopSignals{}), async(t, c, procexec.Task{ID: "2", Data: []byte("{}"), Slot: 1}, procexec.StopSignals{})
	stderr.expect(t, "waiting")
	stderr.expect(t, "waiting")
	if err := n.Raise(); err != nil {
		t.Fatal(err)
	}
	for _, results := range []<-chan procexec.TaskResult{first, second} {
		if r := receive(t, results, "a task"); r.Kind != outcome.Completed || string(r.Result) != `""` {
			t.Errorf("%v %s", r.Kind, r.Result)
		}
	}
	if r := runWith(t, c, task, procexec.StopSignals{}); string(r.Result) != `"there"` {
		t.Errorf("process started after Raise: result %s", r.Result)
	}
}
