package procexec_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/procexec"
)

// readable reports whether a process that polls descriptor fd is woken.
func readable(t *testing.T, fd uintptr) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 0); err != nil {
		t.Fatal(err)
	}
	return fds[0].Revents&(unix.POLLIN|unix.POLLHUP) != 0
}

func newNotice(t *testing.T) *procexec.Notice {
	t.Helper()
	n, err := procexec.NewNotice(t.TempDir(), procexec.ShutdownFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func TestNoticeIsForGood(t *testing.T) {
	t.Parallel()
	n := newNotice(t)
	if readable(t, n.FD()) {
		t.Error("readable before it was raised")
	}
	if _, err := os.Stat(n.Path()); err == nil {
		t.Error("the file is there before it was raised")
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
		t.Error("Close has left the file")
	}
}

func TestNoticeCloseDoesNotRaise(t *testing.T) {
	t.Parallel()
	n := newNotice(t)
	for range 2 { // closing twice must not close somebody else's descriptor
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := n.Raise(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.Path()); err == nil {
		t.Error("raised")
	}
}

func TestNoticeThatCannotMakeItsFile(t *testing.T) {
	t.Parallel()
	n, err := procexec.NewNotice(t.TempDir()+"/none", procexec.ShutdownFile)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	if first, second := n.Raise(), n.Raise(); first == nil || second == nil {
		t.Error("no error")
	}
	if !readable(t, n.FD()) {
		t.Error("the descriptor was not raised")
	}
}

// Two processes are told, and a third that starts after one of them has read
// the notice away.
func TestNoticeReachesEveryProcess(t *testing.T) {
	t.Parallel()
	n, other := newNotice(t), newNotice(t)
	said := newLines()
	l := newLauncher(t, procexec.Options{Slots: 2})
	c := newCommand(t, l, procexec.CommandOptions{
		Argv: sh(`
			[ -e "$CTWORKER_SHUTDOWN_FILE" ] && echo there
			[ -e "$CTWORKER_TERMINATION_FILE" ] && echo wrong
			echo waiting >&2
			read x <&"$CTWORKER_SHUTDOWN_FD"
			[ "$CTWORKER_SHUTDOWN_FD $CTWORKER_TERMINATION_FD" = "4 5" ] || echo "$CTWORKER_TERMINATION_FD"
			exit 0`),
		Shutdown: n, Termination: other, Stderr: said.take,
	})
	first, second := async(t, c, task, procexec.Ends{}), async(t, c, procexec.Task{ID: "2", Data: []byte("{}"), Slot: 1}, procexec.Ends{})
	said.next(t, "waiting")
	said.next(t, "waiting")
	if err := n.Raise(); err != nil {
		t.Fatal(err)
	}
	for _, reports := range []<-chan procexec.Report{first, second} {
		if r := receive(t, reports, "a task"); r.End != procexec.Finished || string(r.Result) != `""` {
			t.Errorf("%v %s", r.End, r.Result)
		}
	}
	if r := runWith(t, c, task, procexec.Ends{}); string(r.Result) != `"there"` {
		t.Errorf("a late process: %s", r.Result)
	}
}
