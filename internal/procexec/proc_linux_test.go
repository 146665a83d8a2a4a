package procexec_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/procexec"
)

// If /proc cannot be used, checkProc returns an error that gives the reason and the remedy.
func TestCheckProc(t *testing.T) {
	t.Parallel()
	const self, guard, run = 12, 34, "0123456789abcdef"
	for _, c := range []struct {
		name    string
		link    string // target of the link /proc/self; "" if the link does not exist
		environ string // content of the guard's environ file; "-" if the file does not exist
		guard   int
		want    string
	}{
		{"whole", "12", "CTWORKER_GUARD=" + run + ":/tmp", guard, ""},
		{"without a guard", "12", "-", 0, ""},
		{"not mounted", "", "-", guard, "not mounted"},
		{"another namespace", "4711", "CTWORKER_GUARD=" + run, guard, "another PID namespace: this process is 12, but /proc/self is 4711"},
		{"hidden", "12", "-", guard, "hidepid"},
		{"unreadable", "12", "", guard, "does not contain the id of the run"},
		{"another process", "12", "PATH=/bin", guard, "does not contain the id of the run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			proc := t.TempDir()
			if c.link != "" {
				if err := os.Symlink(c.link, filepath.Join(proc, "self")); err != nil {
					t.Fatal(err)
				}
			}
			if c.environ != "-" {
				dir := filepath.Join(proc, fmt.Sprint(guard))
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "environ"), []byte(c.environ), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := procexec.CheckProcAt(proc, self, c.guard, run)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("error %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
