package procexec_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
)

// At SIGTERM, a shell that has started a program exits before the program does. The program still
// has the kill delay to clean up.
func TestCommand_GivesKillDelayToProgramOfShell(t *testing.T) {
	t.Parallel()
	// The program is a shell script that starts no child process. A shell resets its traps while it
	// forks, and could miss a SIGTERM at that time.
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
	stderr := newLines()
	c := newCommand(t, newLauncher(t, procexec.Options{}), procexec.CommandOptions{
		Argv: sh(`echo $$ >&2; sh -c "$1" sh "$2" & wait`, program, path), KillDelay: time.Hour, Stderr: stderr.add,
	})
	term, kill := make(chan struct{}), make(chan struct{})
	results := async(t, c, procexec.Task{ID: "t", Data: []byte("1")}, procexec.StopSignals{Terminate: term, Kill: kill})
	defer close(kill)
	pid, err := strconv.Atoi(receive(t, stderr.ch, "the shell's pid"))
	if err != nil {
		t.Fatal(err)
	}
	stderr.expect(t, "ready")
	shell := openPidfd(t, pid)
	close(term)
	awaitExit(t, shell)
	if _, err := mayClean.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	stderr.expect(t, "cleaned up")
	if r := receive(t, results, "the result"); r.Kind != outcome.Interrupted {
		t.Errorf("result %+v", r)
	}
}
