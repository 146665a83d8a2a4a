package ctworker_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"
)

// printed returns the output of a worker program that exits without a run.
func printed(t *testing.T, program string, args ...string) string {
	t.Helper()
	p := startProgram(t, t.TempDir(), program, args...)
	p.want(0)
	if p.stderr.String() != "" {
		t.Errorf("%s %q: wrote to standard error: %s", program, args, p.stderr.String())
	}
	return p.stdout.String()
}

func wantAll(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	full := printed(t, "flags", "--loud", "--help")
	wantAll(t, full,
		"flags: run a function of this program for each task", "flags [flags]", "Cut things off.", "Flags (this program):",
		"--threshold value", "cut off below this value", "(default: 0.5)", "-o file", "--loud ",
		"--max-runtime SECONDS", "RMS_CLOUD_TASKS_MAX_RUNTIME", "--max-tasks-per-process", "--version", "flags --task-file tasks.json",
	)
	if !strings.Contains(full, "--isolation reuse|task") {
		t.Errorf("--help does not list the values of --isolation:\n%s", full)
	}
	short := printed(t, "flags", "-h")
	wantAll(t, short, "flags: run a function", "--threshold value", "--max-runtime SECONDS", `"flags --help" lists all`)
	if lines := strings.Count(short, "\n"); lines > 45 || strings.Contains(short, "--boot-disk") {
		t.Errorf("the short help has %d lines:\n%s", lines, short)
	}
	for line := range strings.Lines(full + short) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	wantAll(t, printed(t, "source", "-h"), " -j auto\n")
	wantAll(t, printed(t, "behave", "--print-config", "-j", "7"), "num-simultaneous-tasks: 7")
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if got := printed(t, "flags", "--loud", "--version"); !strings.HasPrefix(got, "flags ") || !strings.Contains(got, "(ctworker 0.1.0") {
		t.Errorf("got %q", got)
	}
	// A program may have its own flag named version.
	if got := printed(t, "own-version", "--version", "--help"); strings.Count(got, "--version") != 1 || !strings.Contains(got, "the data's version") {
		t.Errorf("got %s", got)
	}
}

// In bash, the flags of the program and the flags of the worker are completed.
func TestCompletion(t *testing.T) {
	t.Parallel()
	script := printed(t, "flags", "completion", "bash")
	for line, want := range map[string]string{
		"./flags --thr":               "--threshold",
		"flags --provider _":          "AWS GCP",
		"flags --loud --print":        "--print-config",
		"flags --threshold 5 --on-re": "--on-rebalance",
	} {
		words := strings.Fields(strings.ReplaceAll(line, "_", ""))
		if strings.HasSuffix(line, "_") {
			words = append(words, "")
		}
		out, err := exec.Command("bash", append([]string{"-c", `eval "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
			_flags; echo "${COMPREPLY[@]}"`, script}, words...)...).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", line, got, err, want)
		}
	}
	wantAll(t, printed(t, "flags", "completion", "zsh"), "compdef _flags 'flags'", "--threshold=")
	wantAll(t, printed(t, "flags", "completion", "fish"), "complete -c flags", "-l threshold")
}

// A failed write of the output is an error.
func TestHelp_WriteError(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"--help", "-h", "--version", "--print-config"} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = full.Close() }()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, arg)
		cmd.Env = append(os.Environ(), programVar+"=behave")
		cmd.Stdout = full
		var stderr strings.Builder
		cmd.Stderr = &stderr
		_ = cmd.Run()
		if got := stderr.String(); cmd.ProcessState.ExitCode() != 1 || got != "behave: write to standard output: write /dev/stdout: no space left on device\n" && arg != "--print-config" {
			t.Errorf("%s: exit code %d, wrote %q", arg, cmd.ProcessState.ExitCode(), got)
		}
	}
}
