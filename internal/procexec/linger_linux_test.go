package procexec_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/procexec"
)

// A shell that waits for a program is the first to end at SIGTERM. The program
// has the kill delay all the same, to clean up in.
func TestProgramOfAShellHasTheKillDelay(t *testing.T) {
	t.Parallel()
	// No child of its own: one that is just being forked when SIGTERM comes may
	// lose it, as the shell resets its traps then.
	const program = `trap 'read x < "$1"; echo cleaned up >&2; exit' TERM; echo ready >&2; while :; do :; done`
	path := filepath.Join(t.TempDir(), "may-clean")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	mayClean, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mayClean.Close() }()
	said := newLines()
	c := newCommand(t, newLauncher(t, procexec.Options{}), procexec.CommandOptions{
		Argv: sh(`echo $$ >&2; sh -c "$1" sh "$2" & wait`, program, path), KillDelay: time.Hour, Stderr: said.take,
	})
	term, kill := make(chan struct{}), make(chan struct{})
	reports := async(t, c, procexec.Task{ID: "t", Data: []byte("1")}, procexec.StopSignals{Terminate: term, Kill: kill})
	defer close(kill)
	pid, err := strconv.Atoi(receive(t, said.ch, "the shell's id"))
	if err != nil {
		t.Fatal(err)
	}
	said.next(t, "ready")
	shell := process(t, pid)
	close(term)
	awaitEnd(t, shell)
	if _, err := mayClean.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	said.next(t, "cleaned up")
	if r := receive(t, reports, "the end"); r.Kind != procexec.Interrupted {
		t.Errorf("ended as %v", r.Kind)
	}
}
