package procexec_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
)

// leave is a script that leaves $4 daemons behind and then writes "ready". $1 is the test binary,
// $2 is the lifeline that the daemons hold open, and $3 is "marked" or "unmarked"; see daemon.
const leave = childVar + `=daemon "$1" "$4" "$2" "$3" || exit 9; echo ready >&2`

// A process that left the process group of its task is killed after the task ends, even if no other
// task starts or ends.
func TestOrphans_KilledAfterTheirTask(t *testing.T) {
	for _, kind := range []string{"marked", "unmarked"} {
		t.Run(kind, func(t *testing.T) {
			isolated(t, func(t *testing.T) {
				lifeline := newLifeline(t)
				stderr := newLines()
				l := newLauncher(t, procexec.Options{Subreaper: true})
				c := newCommand(t, l, procexec.CommandOptions{Argv: sh(leave, self(t), lifeline.path, kind, "1"), Stderr: stderr.add})
				if r := runWith(t, c, task, procexec.StopSignals{}); r.Kind != outcome.Completed {
					t.Fatalf("%+v", r)
				}
				stderr.expect(t, "ready")
				lifeline.awaitClosed(t)
			})
		})
	}
}

// A process that left the process group of its task is not killed while the task runs. To be sure
// that a search for orphans has taken place, the test waits until an orphan of another task is
// killed.
func TestOrphans_KeptWhileTheirTaskRuns(t *testing.T) {
	isolated(t, func(t *testing.T) {
		marked, unmarked, others := newLifeline(t), newLifeline(t), newLifeline(t)
		stderr := newLines()
		end := make(chan struct{})
		l := newLauncher(t, procexec.Options{Subreaper: true})
		c := newCommand(t, l, procexec.CommandOptions{
			Argv: sh(childVar+`=daemon "$1" 1 "$2" marked && `+childVar+`=daemon "$1" 1 "$3" unmarked || exit 9
				echo ready >&2; exec sleep 1000`, self(t), marked.path, unmarked.path),
			Stderr: stderr.add, KillDelay: procexec.NoKillDelay,
		})
		results := async(t, c, task, procexec.StopSignals{Kill: end})
		stderr.expect(t, "ready")
		other := newCommand(t, l, procexec.CommandOptions{Argv: sh(leave, self(t), others.path, "marked", "1"), Stderr: stderr.add})
		for range 2 {
			runWith(t, other, procexec.Task{ID: "2", Data: []byte("1"), Slot: 1}, procexec.StopSignals{})
			stderr.expect(t, "ready")
			others.awaitClosed(t)
		}
		marked.checkOpen(t)
		unmarked.checkOpen(t)
		close(end)
		if r := receive(t, results, "the result"); r.Kind != outcome.Interrupted {
			t.Errorf("%+v", r)
		}
		marked.awaitClosed(t)
		unmarked.awaitClosed(t)
	})
}

// When a task ends, the other processes of its group are killed. They become zombies and children
// of this process. They are reaped even while another task runs.
func TestOrphans_ReapedWhileTasksRun(t *testing.T) {
	isolated(t, func(t *testing.T) {
		lifeline := newLifeline(t)
		stderr := newLines()
		end := make(chan struct{})
		l := newLauncher(t, procexec.Options{Subreaper: true})
		longTask := newCommand(t, l, procexec.CommandOptions{Argv: sh(`echo ready >&2; exec sleep 1000`), Stderr: stderr.add, KillDelay: procexec.NoKillDelay})
		results := async(t, longTask, task, procexec.StopSignals{Kill: end})
		stderr.expect(t, "ready")
		short := newCommand(t, l, procexec.CommandOptions{Argv: sh(`sleep 1000 & sleep 1000 & echo $!`)})
		var zombie int
		r := runWith(t, short, procexec.Task{ID: "2", Data: []byte("1"), Slot: 1}, procexec.StopSignals{})
		if _, err := fmt.Sscanf(string(r.Result), `"%d"`, &zombie); err != nil {
			t.Fatalf("%+v", r)
		}
		other := newCommand(t, l, procexec.CommandOptions{Argv: sh(leave, self(t), lifeline.path, "marked", "1"), Stderr: stderr.add})
		for range 2 { // wait until orphans have been searched for twice
			runWith(t, other, procexec.Task{ID: "3", Data: []byte("1"), Slot: 1}, procexec.StopSignals{})
			stderr.expect(t, "ready")
			lifeline.awaitClosed(t)
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", zombie)); err == nil {
			t.Errorf("process %d is a zombie", zombie)
		}
		close(end)
		receive(t, results, "the result")
	})
}

// Close kills a chain of daemons, each in its own session.
func TestOrphans_KilledByClose(t *testing.T) {
	isolated(t, func(t *testing.T) {
		for range 3 {
			lifeline := newLifeline(t)
			stderr := newLines()
			l := newLauncher(t, procexec.Options{Subreaper: true})
			c := newCommand(t, l, procexec.CommandOptions{Argv: sh(leave+`; exec sleep 1000`, self(t), lifeline.path, "unmarked", "5"), Stderr: stderr.add})
			results := async(t, c, task, procexec.StopSignals{})
			stderr.expect(t, "ready")
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			receive(t, results, "the result")
			if children := childProcesses(t); len(children) > 0 {
				t.Errorf("children %v are still there", children)
			}
			lifeline.awaitClosed(t)
		}
	})
}

// Children that this process had before NewLauncher are not killed. For example, they may be
// background jobs of a shell that has replaced itself with this program by exec.
func TestOrphans_IgnoreOlderChildren(t *testing.T) {
	isolated(t, func(t *testing.T) {
		sleeper, err := os.StartProcess("/bin/sh", sh(`exec sleep 1000`), &os.ProcAttr{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = sleeper.Wait() }()
		defer func() { _ = sleeper.Kill() }()
		lifeline := newLifeline(t)
		stderr := newLines()
		l := newLauncher(t, procexec.Options{Subreaper: true})
		c := newCommand(t, l, procexec.CommandOptions{Argv: sh(leave, self(t), lifeline.path, "marked", "1"), Stderr: stderr.add})
		runWith(t, c, task, procexec.StopSignals{})
		stderr.expect(t, "ready")
		lifeline.awaitClosed(t)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if left := childProcesses(t); len(left) != 1 || left[0] != sleeper.Pid {
			t.Errorf("children %v, want %d", left, sleeper.Pid)
		}
		if fds := []unix.PollFd{{Fd: int32(openPidfd(t, sleeper.Pid).Fd()), Events: unix.POLLIN}}; poll(t, fds) {
			t.Error("the older child was killed")
		}
	})
}

// A search for orphans does not kill processes that are being started or reaped at the same time.
func TestOrphans_IgnoreOwnProcesses(t *testing.T) {
	isolated(t, func(t *testing.T) {
		l := newLauncher(t, procexec.Options{})
		scan := procexec.OrphanScan(l)
		stop, scanned := make(chan struct{}), make(chan int)
		go func() {
			killed := 0
			for {
				select {
				case <-stop:
					scanned <- killed
					return
				default:
					killed += scan()
				}
			}
		}()
		var slots sync.WaitGroup
		for range 2 { // with only two slots, there are often no running processes at all
			slots.Go(func() {
				for range 500 {
					p, err := start(l, `exit 7`)
					if err != nil {
						t.Error(err)
						return
					}
					if code := p.Exit().Code; code != 7 {
						t.Errorf("exit code %d, want 7", code)
					}
				}
			})
		}
		slots.Wait()
		close(stop)
		if killed := receive(t, scanned, "the scans"); killed > 0 {
			t.Errorf("%d processes were killed as orphans", killed)
		}
	})
}
