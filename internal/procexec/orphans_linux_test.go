package procexec_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/procexec"
)

// leave is a script that leaves $4 daemons of the kind $3 behind, that hold the
// life $2, and says "ready"; $1 is the test binary.
const leave = childVar + `=daemon "$1" "$4" "$2" "$3" || exit 9; echo ready >&2`

// What left its group is killed when its task is over, though nothing else
// happens in the engine after that.
func TestOrphanIsKilledWhenItsTaskIsOver(t *testing.T) {
	for _, kind := range []string{"marked", "unmarked"} {
		t.Run(kind, func(t *testing.T) {
			isolated(t, func(t *testing.T) {
				life := newLife(t)
				said := newLines()
				l := newLauncher(t, procexec.Options{Subreaper: true})
				c := newCommand(t, l, procexec.CommandOptions{Argv: sh(leave, self(t), life.path, kind, "1"), Stderr: said.take})
				if r := runWith(t, c, task, procexec.StopSignals{}); r.Kind != procexec.Completed {
					t.Fatalf("%+v", r)
				}
				said.next(t, "ready")
				life.over(t)
			})
		})
	}
}

// While its task runs, what left its group is left alone: another task's orphan
// that is killed meanwhile shows that orphans have been looked for.
func TestOrphanLivesWhileItsTaskRuns(t *testing.T) {
	isolated(t, func(t *testing.T) {
		marked, unmarked, others := newLife(t), newLife(t), newLife(t)
		said := newLines()
		end := make(chan struct{})
		l := newLauncher(t, procexec.Options{Slots: 2, Subreaper: true})
		c := newCommand(t, l, procexec.CommandOptions{
			Argv: sh(childVar+`=daemon "$1" 1 "$2" marked && `+childVar+`=daemon "$1" 1 "$3" unmarked || exit 9
				echo ready >&2; exec sleep 1000`, self(t), marked.path, unmarked.path),
			Stderr: said.take, KillDelay: -1,
		})
		reports := async(t, c, task, procexec.StopSignals{Kill: end})
		said.next(t, "ready")
		other := newCommand(t, l, procexec.CommandOptions{Argv: sh(leave, self(t), others.path, "marked", "1"), Stderr: said.take})
		for range 2 {
			runWith(t, other, procexec.Task{ID: "2", Data: []byte("1"), Slot: 1}, procexec.StopSignals{})
			said.next(t, "ready")
			others.over(t)
		}
		marked.goesOn(t)
		unmarked.goesOn(t)
		close(end)
		if r := receive(t, reports, "the report"); r.Kind != procexec.Interrupted {
			t.Errorf("%+v", r)
		}
		marked.over(t)
		unmarked.over(t)
	})
}

// What a task left in its group is a zombie of ours when it has been killed, and
// is reaped though another task runs on.
func TestZombiesAreReapedWhileTasksRun(t *testing.T) {
	isolated(t, func(t *testing.T) {
		life := newLife(t)
		said := newLines()
		end := make(chan struct{})
		l := newLauncher(t, procexec.Options{Slots: 2, Subreaper: true})
		longTask := newCommand(t, l, procexec.CommandOptions{Argv: sh(`echo ready >&2; exec sleep 1000`), Stderr: said.take, KillDelay: -1})
		reports := async(t, longTask, task, procexec.StopSignals{Kill: end})
		said.next(t, "ready")
		short := newCommand(t, l, procexec.CommandOptions{Argv: sh(`sleep 1000 & sleep 1000 & echo $!`)})
		var zombie int
		r := runWith(t, short, procexec.Task{ID: "2", Data: []byte("1"), Slot: 1}, procexec.StopSignals{})
		if _, err := fmt.Sscanf(string(r.Result), `"%d"`, &zombie); err != nil {
			t.Fatalf("%+v", r)
		}
		other := newCommand(t, l, procexec.CommandOptions{Argv: sh(leave, self(t), life.path, "marked", "1"), Stderr: said.take})
		for range 2 { // orphans are looked for twice
			runWith(t, other, procexec.Task{ID: "3", Data: []byte("1"), Slot: 1}, procexec.StopSignals{})
			said.next(t, "ready")
			life.over(t)
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", zombie)); err == nil {
			t.Errorf("process %d is a zombie", zombie)
		}
		close(end)
		receive(t, reports, "the report")
	})
}

// Close ends a chain of processes that each left the session of the one before.
func TestCloseKillsOrphans(t *testing.T) {
	isolated(t, func(t *testing.T) {
		for range 3 {
			life := newLife(t)
			said := newLines()
			l := newLauncher(t, procexec.Options{Subreaper: true})
			c := newCommand(t, l, procexec.CommandOptions{Argv: sh(leave+`; exec sleep 1000`, self(t), life.path, "unmarked", "5"), Stderr: said.take})
			reports := async(t, c, task, procexec.StopSignals{})
			said.next(t, "ready")
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			receive(t, reports, "the report")
			if left := childProcesses(t); len(left) > 0 {
				t.Errorf("children %v are left", left)
			}
			life.over(t)
		}
	})
}

// Children that this process had before it had a Launcher, such as background
// jobs of the shell that it was, are not the Launcher's to kill.
func TestOlderChildrenAreLeftAlone(t *testing.T) {
	isolated(t, func(t *testing.T) {
		sleeper, err := os.StartProcess("/bin/sh", sh(`exec sleep 1000`), &os.ProcAttr{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = sleeper.Wait() }()
		defer func() { _ = sleeper.Kill() }()
		life := newLife(t)
		said := newLines()
		l := newLauncher(t, procexec.Options{Subreaper: true})
		c := newCommand(t, l, procexec.CommandOptions{Argv: sh(leave, self(t), life.path, "marked", "1"), Stderr: said.take})
		runWith(t, c, task, procexec.StopSignals{})
		said.next(t, "ready")
		life.over(t)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if left := childProcesses(t); len(left) != 1 || left[0] != sleeper.Pid {
			t.Errorf("children %v, want %d", left, sleeper.Pid)
		}
		if fds := []unix.PollFd{{Fd: int32(process(t, sleeper.Pid).Fd()), Events: unix.POLLIN}}; poll(t, fds) {
			t.Error("it was killed")
		}
	})
}

// Looking for orphans without a pause, while processes are started and reaped,
// takes none of them for an orphan.
func TestScanLeavesOwnProcessesAlone(t *testing.T) {
	isolated(t, func(t *testing.T) {
		l := newLauncher(t, procexec.Options{Slots: 2})
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
		for slotIndex := range 2 { // so few that there often is none
			slots.Go(func() {
				for range 500 {
					p, err := start(l, slotIndex, `exit 7`)
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
			t.Errorf("%d processes were taken for orphans", killed)
		}
	})
}
