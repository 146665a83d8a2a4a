package config

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the files that are made from the settings")

// docs/settings.md is generated from the settings, and must be up to date.
func TestSettingsDoc(t *testing.T) {
	t.Parallel()
	upToDate(t, "../../docs/settings.md", settingsDoc())
}

// upToDate fails the test if the content of the file at path differs from want. With -update, it
// first writes want to the file.
func upToDate(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not up to date; run: go test ./internal/config -run Settings -update", path)
	}
}

const settingsHead = `# Settings

Nearly every setting has a flag, an environment variable and a key in the config file. This page lists them all. ` + "`ctworker run --help`" + `
prints the same list.

You can use each of the three, or mix them:

` + "```sh" + `
ctworker run --task-file tasks.yaml --num-simultaneous-tasks auto -- ./process

export RMS_CLOUD_TASKS_TASK_FILE=tasks.yaml RMS_CLOUD_TASKS_NUM_TASKS_PER_INSTANCE=auto
ctworker run -- ./process

ctworker run --config worker.yaml -- ./process
` + "```" + `

The third run reads its settings from a config file, a YAML mapping. Its keys are the names of the flags without the
leading dashes:

` + "```yaml" + `
task-file: tasks.yaml
num-simultaneous-tasks: auto
retry-on-exit: true       # the flag is --retry-on-exit; false stands for --no-retry-on-exit
` + "```" + `

If a setting has several values, ctworker uses the first one of this list:

1. the flag on the command line. If you pass a flag twice, even as ` + "`--x`" + ` and ` + "`--no-x`" + `, the last one counts;
2. the environment variable;
3. the config file;
4. the default.

` + "`ctworker run --print-config`" + ` prints all settings with their values, and where each value comes from. The output is a
valid config file, except that passwords are masked.

## Values

| kind | how to write it |
|---|---|
| SECONDS | a number, such as ` + "`60`" + `, ` + "`0.5`" + ` or ` + "`1e2`" + ` |
| GB, SIZE, BYTES | a number, or a number with a unit, such as ` + "`500M`" + `, ` + "`1.5GB`" + ` or ` + "`2GiB`" + `. Every unit is a power of 1024: 1 GB is 2^30 bytes. If you write a number without a unit, it has the unit that the tables below give |
| yes or no, in a variable or the config file | ` + "`1`" + `, ` + "`true`" + `, ` + "`yes`" + ` or ` + "`on`" + `; or ` + "`0`" + `, ` + "`false`" + `, ` + "`no`" + ` or ` + "`off`" + `; in upper or lower case |

A variable that is empty, or that is ` + "`None`" + `, counts as not set. (A Python program that exports a missing value often writes
` + "`None`" + `.)

If a setting is invalid, nothing is run. ctworker reports all invalid settings at once, and exits with code 2. If a
setting has no effect, or cannot be applied on this machine, ctworker logs a warning.

Other users of the machine can see your command line. If an address contains a password or a signature, write it to a
variable or to the config file. ctworker masks passwords and signatures in its logs, in events and in the output of
` + "`--print-config`" + `.

## Variables inside a task

A task gets the ` + "`RMS_CLOUD_TASKS_…`" + ` variables of its run in its environment. A task can read them to find out, for example,
its time limit.

If a task starts another ctworker, that ctworker ignores these variables, because they belong to the run of the task.
Configure it with flags or a config file, or set a variable to a different value in the task. To make it use all inherited
variables, unset ` + "`CTWORKER_OUTER_SETTINGS`" + `, which lists the variables to ignore.

`

func settingsDoc() []byte {
	var b bytes.Buffer
	b.WriteString(settingsHead)
	category := ""
	for _, s := range settings() {
		if s.category != category {
			category = s.category
			fmt.Fprintf(&b, "\n## %s\n\n| flag | variable | default | |\n|---|---|---|---|\n", category)
		}
		names := "`--" + s.name
		if s.arg != "" {
			names += " " + s.arg
		}
		names += "`"
		for _, name := range s.names() {
			if name != s.name {
				names += ", `" + flagged(name) + "`"
			}
		}
		env := ""
		if s.env != "" {
			env = "`" + s.env + "`"
		}
		usage := s.usage
		if s.name == isolationName {
			usage += ". A Go program accepts reuse (default) and task; a Python program accepts fork (default, except on macOS), spawn (default on macOS) and reuse"
		}
		def := s.def
		if s.defHelp != "" {
			def = s.defHelp
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", escaped(names), env, def, escaped(usage))
	}
	return b.Bytes()
}

// The settings of the Python package are generated from this package, and must be up to date.
func TestSettingsOfPython(t *testing.T) {
	t.Parallel()
	upToDate(t, "../../sdk/python/src/ctworker/_settings.py", settingsOfPython())
}

const pythonHead = `"""The worker's settings.

Written by "go test ./internal/config -run Settings -update"; do not edit.
"""

from __future__ import annotations

from typing import NamedTuple


class Setting(NamedTuple):
    """A setting, with the flags and the environment variable that set it."""

    flags: tuple[str, ...]
    """The flags, with their dashes. The first is the main flag, and the others are aliases."""
    negated: str | None
    """The flag that sets a bool to false, or None if there is no such flag."""
    metavar: str | None
    """The placeholder for the value in help pages, or None if the flag takes no value."""
    help: str
    env: str | None
    default: str | None
    category: str
    kind: str
    """The type of the value: "str", "int", "float" or "bool"."""
    common: bool
    """Whether the short help, -h, lists the setting."""
    attribute: str | None
    """The attribute of WorkerData with the value of the setting, or None."""


SETTINGS: tuple[Setting, ...] = (
`

func settingsOfPython() []byte {
	var b bytes.Buffer
	b.WriteString(pythonHead)
	for _, s := range settingsOf(Python) {
		flags, negated := "", ""
		for _, name := range s.names() {
			if s.negatable && name == negation+s.name {
				negated = flagged(name)
				continue
			}
			flags += fmt.Sprintf("%q, ", flagged(name))
		}
		kind := "str"
		switch s.at(&Config{}).(type) {
		case field[int], field[int64], optional[int], optional[int64]:
			kind = "int"
		case field[time.Duration], optional[time.Duration], optional[float64]:
			kind = "float"
		case field[bool]:
			kind = "bool"
		}
		switch s.name {
		case "max-result-size", "max-memory-allowed-per-task":
			kind = "str" // 16MiB
		}
		fmt.Fprintf(&b, "    Setting(\n        flags=(%s),\n        negated=%s,\n        metavar=%s,\n        help=%q,\n        env=%s,\n        default=%s,\n        category=%q,\n        kind=%q,\n        common=%s,\n        attribute=%s,\n    ),\n",
			strings.TrimSuffix(flags, " "), orNone(negated), orNone(s.arg), s.usage, orNone(s.env), orNone((&option{setting: s}).GetDefaultText()), s.category, kind, pythonBool(s.common), orNone(attributeOf(s.name)))
	}
	b.WriteString(")\n\nREMOVED = {\n")
	for _, r := range removals() {
		fmt.Fprintf(&b, "    %q: %q,\n", flagged(r.name), r.flag())
	}
	b.WriteString("}\n\"\"\"Maps each flag that earlier versions had to the flag that replaces it.\"\"\"\n")
	return b.Bytes()
}

// pythonBool returns b in Python syntax.
func pythonBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// orNone returns text as a Python literal, or None if text is empty.
func orNone(text string) string {
	if text == "" {
		return "None"
	}
	return fmt.Sprintf("%q", text)
}

// escaped escapes each bar, because a bar would end the cell of a Markdown table.
func escaped(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
