package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/help"
)

// everyCommand contains the words of each command, and those of ctworker without a command.
var everyCommand = []string{
	"", "run", "results", "load", "events", "queue", "queue status", "queue create", "queue purge", "queue delete",
	"protocol-check", "help", "completion", "version", "engine",
}

// helped returns what a command line prints in a terminal of the given width.
func helped(t *testing.T, columns string, args ...string) string {
	t.Helper()
	in := prepare(t, t.TempDir(), args...)
	in.cmd.Env = append(in.cmd.Env, "COLUMNS="+columns)
	in.start().want(app.ExitOK)
	if in.stderr.String() != "" {
		t.Errorf("%q: wrote to standard error: %s", args, in.stderr.String())
	}
	return in.stdout.String()
}

// Each command has a short and a complete help, on standard output, as wide as the terminal.
func TestHelp_FitsTheTerminal(t *testing.T) {
	t.Parallel()
	for _, command := range everyCommand {
		words := strings.Fields(command)
		for columns, width := range map[string]int{"": 80, "100": 100} {
			short := helped(t, columns, append(words, "-h")...)
			full := helped(t, columns, append(words, "--help")...)
			if about := helped(t, columns, append([]string{"help"}, words...)...); about != full {
				t.Errorf("help %s prints\n%s\nand not\n%s", command, about, full)
			}
			for _, text := range []string{short, full} {
				if !strings.HasPrefix(text, strings.TrimSpace("ctworker "+command)+": ") || !strings.Contains(text, "\nUsage:\n  ctworker") {
					t.Errorf("%s has no head:\n%s", command, text)
				}
				for line := range strings.Lines(text) {
					if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
						t.Errorf("%s: %d columns of %d: %s", command, n, width, line)
					}
				}
			}
			if n := strings.Count(short, "\n"); command != "engine" && n > 45 {
				t.Errorf("the short help of %q has %d lines", command, n)
			}
			if more := strings.TrimSpace("ctworker help " + command); !strings.Contains(strings.Join(strings.Fields(short), " "), `"`+more+`"`) {
				t.Errorf("%s: the short help does not name %q:\n%s", command, more, short)
			}
		}
	}
}

func TestHelp_HasAllSettings(t *testing.T) {
	t.Parallel()
	short, full := helped(t, "", "run", "-h"), helped(t, "", "help", "run")
	for _, f := range config.FlagsOf(&config.Flags{}) {
		d := help.DescribeFlag(f)
		if !strings.Contains(full, "\n  "+d.Synopsis()) || !strings.Contains(full, d.Env) {
			t.Errorf("lacks %s:\n%s", d.Synopsis(), full)
		}
		if strings.Contains(short, "\n  "+d.Synopsis()) != d.Common {
			t.Errorf("the short help has %s, or lacks it:\n%s", d.Synopsis(), short)
		}
	}
	if text := helped(t, "", "queue", "help", "status"); text != helped(t, "", "help", "queue", "status") {
		t.Error(text)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"version", "--version", "-v"} {
		if got, want := helped(t, "", arg), "ctworker version 0.1.0"; !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", arg, got, want)
		}
	}
}

// Output that cannot be written is an error.
func TestHelp_OutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"--help", "-h", "help run", "run -h", "version", "completion bash", "queue status --help", "run --print-config"} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = full.Close() }()
		in := prepare(t, t.TempDir(), strings.Fields(args)...)
		in.cmd.Stdout = full
		in.start().want(app.ExitFatal)
		if got := in.stderr.String(); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "ctworker: ") || !strings.Contains(got, "no space left") {
			t.Errorf("%s: wrote %q", args, got)
		}
	}
}

// "make man" reads the description of all commands.
func TestHelp_JSON(t *testing.T) {
	t.Parallel()
	var c help.Command
	if err := json.Unmarshal([]byte(helped(t, "", "help", "--json")), &c); err != nil {
		t.Fatal(err)
	}
	if run, ok := c.Find("run"); !ok || len(run.Flags) < 50 || len(run.Examples) < 3 {
		t.Errorf("run: %+v", run)
	}
	for _, command := range everyCommand {
		if _, ok := c.Find(strings.Fields(command)...); ok != (command != "engine") {
			t.Errorf("%q is described: %v", command, ok)
		}
	}
}

// complete runs the completion script of bash on a command line, and returns the candidates.
func complete(t *testing.T, script, dir string, words ...string) []string {
	t.Helper()
	cmd := exec.Command("bash", append([]string{"-c", `eval "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
		complete -p ctworker >&2 && _ctworker && printf '%s\n' "${COMPREPLY[@]}"`, script}, words...)...)
	cmd.Dir = dir
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil || strings.TrimSpace(complaints.String()) != "complete -F _ctworker ctworker" {
		t.Fatalf("bash: %v: %s%s", err, out, complaints.String())
	}
	return strings.Fields(string(out))
}

// bash itself completes commands, flags, values and files.
func TestCompletion_Bash(t *testing.T) {
	t.Parallel()
	script := helped(t, "", "completion", "bash")
	dir := t.TempDir()
	write(t, dir, "tasks.json", "")
	for line, want := range map[string]string{
		"ctworker _":                                    "run failed results output audit report load events monitor queue protocol-check help completion version",
		"ctworker r":                                    "run results report",
		"ctworker run --max-r":                          "--max-runtime --max-result-size",
		"ctworker run --provider _":                     "AWS GCP",
		"ctworker run --provider = G":                   "GCP",
		"ctworker run --log-format =":                   "auto console json",
		"ctworker run --task-file _":                    "tasks.json",
		"ctworker run --task-file = ta":                 "tasks.json",
		"ctworker run --task-file s3 : //b/x --provid":  "--provider",
		"ctworker run --debug-address a : 60 --ma":      "--max-runtime --max-num-tasks --max-failures --max-consecutive-failures --max-memory-allowed-per-task --max-tasks-per-process --max-result-size --max-attempts --max-output-size",
		"ctworker run --task-file s3 : //b":             "",
		"ctworker run --job-id _":                       "",
		"ctworker run --strict = false --provid":        "--provider",
		"ctworker run --task-file tasks.json --is-s":    "--is-spot",
		"ctworker run --isolation _":                    "task reuse",
		"ctworker run -j auto -- ./x _":                 "tasks.json",
		"ctworker run -- --provider ta":                 "tasks.json",
		"ctworker queue _":                              "status create purge delete",
		"ctworker queue purge --y":                      "--yes",
		"ctworker queue status --y":                     "",
		"ctworker events --output ta":                   "tasks.json",
		"ctworker help q":                               "queue",
		"ctworker help queue s":                         "status",
		"ctworker completion _":                         "bash zsh fish",
		"ctworker --ver":                                "--version",
		"ctworker load --provider AWS --task-file tas":  "tasks.json",
		"ctworker protocol-check --timeout 3 --timeo":   "--timeout",
		"ctworker queue status --provider AWS --log-fo": "--log-format",
	} {
		words := strings.Fields(line)
		for i := range words {
			words[i] = strings.TrimPrefix(words[i], "_") // the empty word at the cursor
		}
		if got := strings.Join(complete(t, script, dir, words...), " "); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
	if got := strings.Join(complete(t, script, dir, "ctworker", "run", "--", "bas"), " "); !strings.Contains(got, "bash") {
		t.Errorf("commands: got %q", got)
	}
}

// The shells accept their scripts, if they are installed.
func TestCompletion_Syntax(t *testing.T) {
	t.Parallel()
	for _, shell := range help.Shells() {
		script := helped(t, "", "completion", shell)
		for _, want := range []string{"AWS GCP", "task-file", "protocol-check", "status"} {
			if !strings.Contains(script, want) {
				t.Errorf("%s: lacks %s", shell, want)
			}
		}
		if path, err := exec.LookPath(shell); err == nil {
			cmd := exec.Command(path, "-n")
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s: %v: %s", shell, err, out)
			}
		}
	}
}
