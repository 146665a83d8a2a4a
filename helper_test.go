package ctworker_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// testTimeout is how long a test waits for something that should happen immediately.
const testTimeout = time.Minute

func withoutSettings(env []string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, "RMS_CLOUD_TASKS_") && !strings.HasPrefix(v, "CTWORKER_") {
			kept = append(kept, v)
		}
	}
	return kept
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fifo creates a named pipe to which tasks write, and returns a function that waits for one
// line.
func fifo(t *testing.T, dir, name string) (await func()) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // opened for writing too, so that reads never return EOF
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	lines := bufio.NewReader(f)
	return func() {
		t.Helper()
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
}
