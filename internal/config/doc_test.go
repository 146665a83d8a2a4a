package config

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/settings.md")

// docs/settings.md is written from the table of settings, and is up to date.
func TestSettingsDoc(t *testing.T) {
	t.Parallel()
	const path = "../../docs/settings.md"
	want := settingsDoc()
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
		t.Error("docs/settings.md is not what the settings say; run: go test ./internal/config -run SettingsDoc -update")
	}
}

const settingsHead = `# Settings

Each setting is taken from the command line, else from its environment variable, else from
the config file, else it has its default. Of a flag that is given twice, also as ` + "`--x`" + ` and
` + "`--no-x`" + `, the last one counts. An empty variable counts as not set. A boolean variable
is 1, true, 0 or false. All faults are reported at once, and then nothing is run.

The config file, ` + "`--config FILE`" + `, is a YAML mapping whose keys are the flags' names without
dashes in front; the positive name of a pair, with true or false:

` + "```yaml" + `
task-file: tasks.yaml
num-simultaneous-tasks: auto
retry-on-exit: true
` + "```" + `

` + "`ctworker run --print-config`" + ` prints every setting with its value and where it came from, as
such a file. Times are in seconds and may have a fraction; 1 GB is 2^30 bytes.

Queues, remote files and spot notices are not in this version yet. Their settings are checked and
shown, and ctworker says so where one has no effect or cannot be met.

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
		def := s.def
		if s.defHelp != "" {
			def = s.defHelp
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", escaped(names), env, def, escaped(s.usage))
	}
	return b.Bytes()
}

// escaped keeps a bar from ending a cell of a table.
func escaped(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
