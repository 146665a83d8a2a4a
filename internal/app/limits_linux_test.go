package app

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// limitedVariable is an environment variable that makes this test binary set a limit and call Begin. Its
// value is the name of the limit.
const limitedVariable = "CTWORKER_TEST_LIMIT"

// Begin names a limit that is too low and returns exit code 1. It only warns about a limit that may
// be too low.
func TestBegin_NamesLimits(t *testing.T) {
	if kind := os.Getenv(limitedVariable); kind != "" {
		resource, limit := unix.RLIMIT_NPROC, uint64(1)
		if kind == "address space" {
			resource, limit = unix.RLIMIT_AS, 3<<30
		}
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			os.Exit(9)
		}
		os.Exit(Begin(os.Stderr, "ctworker"))
	}
	t.Parallel()
	for kind, want := range map[string]struct {
		code int
		text string
	}{
		"processes":     {ExitFatal, "ulimit -u"},
		"address space": {ExitOK, "ulimit -v"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestBegin_NamesLimits$")
			cmd.Env = append(os.Environ(), limitedVariable+"="+kind)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if os.Geteuid() == 0 && kind == "processes" { // the limit does not apply to root
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
				cmd.Path = copyOf(t, os.Args[0])
			}
			_ = cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != want.code || !strings.Contains(stderr.String(), want.text) {
				t.Errorf("exit code %d: %s", code, stderr.String())
			}
		})
	}
}

// copyOf copies a program to a directory where every user can start it.
func copyOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "limits")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/program.test", b, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + "/program.test"
}
