package procexec_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/procexec"
)

// The error for a program that cannot be started contains advice on the usual mistakes.
func TestNewCommand_ExplainsMistakes(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for program, want := range map[string]string{
		"gzip -k x":       "without quotes around all of them",
		script:            `"chmod +x"`,
		"no-such-program": "executable file not found",
	} {
		_, err := procexec.NewCommand(newLauncher(t, procexec.Options{}), procexec.CommandOptions{Argv: []string{program}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", program, err, want)
		}
	}
}

func TestSuspectPlaceholder(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"{taskid}": "{task_id}", "out/{task-id}.png": "{task_id}", "{Task_ID}": "{task_id}", "{ task_id }": "{task_id}", "{DATA.file}": "{data.file}",
		"{task_id}": "", "{data.file}": "", "{data.}": "", "{}": "", "{id}": "", "{print $1}": "", "{a{taskid}": "{task_id}", "taskid}": "", "{taskid": "",
	} {
		if _, got := procexec.SuspectPlaceholder([]string{"x", arg}); got != want {
			t.Errorf("%s: suggests %q, want %q", arg, got, want)
		}
	}
}
