package procexec_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
)

// start starts a shell script without standard streams.
func start(l *procexec.Launcher, script string, args ...string) (*procexec.Process, error) {
	return l.Start(procexec.Spec{Path: "/bin/sh", Args: sh(script, args...)})
}

func TestProcess_Exit(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, procexec.Options{})
	for script, want := range map[string]int{`exit 0`: 0, `exit 3`: 3, `kill -9 $$`: -9} {
		p, err := start(l, script)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Exit().Code; got != want {
			t.Errorf("%s: code %d", script, got)
		}
		p.Terminate(0) // no effect, because the process has exited
		p.Kill()
	}
}

func TestLauncher_CloseKillsRunningProcesses(t *testing.T) {
	t.Parallel()
	lifeline := newLifeline(t)
	l := newLauncher(t, procexec.Options{})
	stderr := newLines()
	c := newCommand(t, l, procexec.CommandOptions{Argv: sh(ignoreSIGTERM, lifeline.path), Stderr: stderr.add})
	var all []<-chan procexec.TaskResult
	for slotIndex := range 3 {
		all = append(all, async(t, c, procexec.Task{ID: "t", Data: []byte("1"), Slot: slotIndex}, procexec.StopSignals{}))
	}
	for range all {
		stderr.expect(t, "ready")
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, results := range all {
		if r := receive(t, results, "a killed task"); r.Kind != outcome.Exited || r.ExitCode != -9 {
			t.Errorf("%+v", r)
		}
	}
	lifeline.awaitClosed(t)
	if _, err := start(l, `:`); !errors.Is(err, procexec.ErrClosed) {
		t.Errorf("Start after Close: error %v", err)
	}
	if _, err := c.Run(task, procexec.StopSignals{}); !errors.Is(err, procexec.ErrClosed) {
		t.Errorf("Run after Close: error %v", err)
	}
}

// Close during Start kills the process that Start returns. Close does not kill the process group of
// the test itself.
func TestLauncher_CloseDuringStart(t *testing.T) {
	t.Parallel()
	for range 20 {
		lifeline := newLifeline(t)
		l := newLauncher(t, procexec.Options{})
		var starts sync.WaitGroup
		began := make(chan struct{}, 8)
		for slotIndex := range 8 {
			starts.Go(func() {
				began <- struct{}{}
				for {
					p, err := start(l, `exec 9>"$1"; exec sleep 1000`, lifeline.path)
					if errors.Is(err, procexec.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					if slotIndex%2 == 0 {
						p.Kill()
					}
					if p.Exit().Code == 0 {
						t.Error("the process exited with code 0, want killed")
					}
				}
			})
		}
		for range 8 {
			<-began
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		starts.Wait()
		lifeline.awaitClosed(t)
	}
}

// Close returns an error if a process does not exit in time. The process may exit later.
func TestLauncher_CloseReportsStuckProcesses(t *testing.T) {
	t.Parallel()
	l, err := procexec.NewLauncher(procexec.Options{Guard: []string{self(t)}})
	if err != nil {
		t.Fatal(err)
	}
	remove := procexec.AddLive(l)
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "after SIGKILL") {
		t.Errorf("error %v", err)
	}
	remove()
}

func TestLauncher_StartReturnsStartError(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, procexec.Options{})
	_, err := l.Start(procexec.Spec{Path: "/nowhere/at/all", Args: []string{"x"}})
	var start *procexec.StartError
	if !errors.As(err, &start) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
