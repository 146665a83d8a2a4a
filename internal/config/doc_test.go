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

// docs/settings.md is written from the table of settings, and is up to date.
func TestSettingsDoc(t *testing.T) {
	t.Parallel()
	upToDate(t, "../../docs/settings.md", settingsDoc())
}

// upToDate fails the test if the file at path is not want, or writes it.
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
		t.Errorf("%s is not what the settings say; run: go test ./internal/config -run Settings -update", path)
	}
}

const settingsHead = `# Settings

The value of a setting is taken from the command line, then from its environment variable, then from
the config file, and is otherwise its default. If a flag is given twice, even as ` + "`--x`" + ` and
` + "`--no-x`" + `, the last one counts. If settings are invalid, all errors are reported together and nothing
is run.

A variable that is empty, or ` + "`None`" + ` (Python's text for a missing value), counts as not set. A
boolean is 1, true, yes or on, or 0, false, no or off, in upper or lower case.

The config file, ` + "`--config FILE`" + `, is a YAML mapping whose keys are the flags' names without
dashes in front; the positive name of a pair, with true or false:

` + "```yaml" + `
task-file: tasks.yaml
num-simultaneous-tasks: auto
retry-on-exit: true
` + "```" + `

` + "`ctworker run --print-config`" + ` prints such a file, with every setting, its value, and where the value
comes from. It masks passwords and signatures in addresses, as logs and events do. Other users of the
machine can see a command line, so set such an address in a variable or in the config file. Times are
in seconds and may have a fraction or an exponent (` + "`0.5`, `1e2`" + `); 1 GB is 2^30 bytes.

ctworker logs a warning if a setting has no effect or cannot be met.

## Variables inside a task

The environment of a task has the specification's variables with the values of the task's own run,
for information. If the task starts another ctworker, that one ignores every ` + "`RMS_CLOUD_TASKS_*`" + `
variable that the task inherited: configure it with flags or a config file. A variable to which the
task assigns a different value is used. To make ctworker use all inherited variables, unset
` + "`CTWORKER_OUTER_SETTINGS`" + `, which lists them.

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
			usage += ". A Go program has reuse (default) and task; a Python program has fork (default; spawn on macOS), reuse and spawn"
		}
		def := s.def
		if s.defHelp != "" {
			def = s.defHelp
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", escaped(names), env, def, escaped(usage))
	}
	return b.Bytes()
}

// The Python package's table of settings is written from ours, and is up to date.
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
    """What there is to say about one setting."""

    flags: tuple[str, ...]
    """The flags, with their dashes; the setting's own name is the first."""
    negated: str | None
    """The flag for the opposite, if there is one."""
    metavar: str | None
    """What help calls the value; None for a flag without one."""
    help: str
    env: str | None
    default: str | None
    category: str
    kind: str
    """"str", "int", "float" or "bool"."""
    common: bool
    """True if the short help has it."""


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
		fmt.Fprintf(&b, "    Setting(\n        flags=(%s),\n        negated=%s,\n        metavar=%s,\n        help=%q,\n        env=%s,\n        default=%s,\n        category=%q,\n        kind=%q,\n        common=%s,\n    ),\n",
			strings.TrimSuffix(flags, " "), orNone(negated), orNone(s.arg), s.usage, orNone(s.env), orNone((&option{setting: s}).GetDefaultText()), s.category, kind, pythonBool(s.common))
	}
	b.WriteString(")\n\nREMOVED = {\n")
	for _, r := range removals() {
		fmt.Fprintf(&b, "    %q: %q,\n", flagged(r.name), r.flag())
	}
	b.WriteString("}\n\"\"\"The flags of earlier versions, and what replaces each.\"\"\"\n")
	return b.Bytes()
}

// pythonBool returns b as Python writes it.
func pythonBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// orNone is text as Python has it.
func orNone(text string) string {
	if text == "" {
		return "None"
	}
	return fmt.Sprintf("%q", text)
}

// escaped keeps a bar from ending a cell of a table.
func escaped(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
