package ctworker_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documents returns the name and text of README.md, CONTRIBUTING.md and docs/.
func documents(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range append(names, "README.md", "CONTRIBUTING.md", "deploy/README.md", "sdk/python/README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(text)
	}
	return all
}

// Each Go program in the documents compiles.
func TestProgramsInDocumentsCompile(t *testing.T) {
	t.Parallel()
	block := regexp.MustCompile("(?ms)^```go\n(.*?)^```$")
	n := 0
	for name, text := range documents(t) {
		for _, m := range block.FindAllStringSubmatch(text, -1) {
			n++
			if !strings.HasPrefix(m[1], "package ") {
				t.Errorf("%s: a Go block is not a complete program:\n%s", name, m[1])
				continue
			}
			// The directory is inside the module, so that the programs can import the packages of the module.
			dir, err := os.MkdirTemp(".", "docs-test-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(m[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), "go", "vet", "./"+dir).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
	}
	if n == 0 {
		t.Error("found no Go program")
	}
}

// Each flag mentioned in the documents exists.
func TestFlagsInDocumentsExist(t *testing.T) {
	t.Parallel()
	all := documents(t)
	flagName := regexp.MustCompile(`--[a-z][a-z0-9-]*[a-z0-9]`)
	known := map[string]bool{
		"--help": true, "--version": true, "--x": true, "--no-x": true, "--retry-on": true, "--no": true,
		"--threshold": true, // of an example
		// Flags of the commands for queues.
		"--create": true, "--output": true, "--events": true, "--yes": true, "--json": true,
		// Flags of the commands failed, audit, output, report, results and monitor.
		"--kind": true, "--tasks": true, "--timestamps": true, "--attempt": true, "--stream": true, "--follow": true,
		"--format": true, "--all-attempts": true, "--until-complete": true, "--total": true,
		// Flags of other programs: jq, git, pip.
		"--rawfile": true, "--file": true, "--depth": true, "--no-deps": true,
	}
	for _, name := range flagName.FindAllString(all["docs/settings.md"], -1) {
		known[name] = true
	}
	for name, text := range all {
		for _, f := range flagName.FindAllString(text, -1) {
			if !known[f] {
				t.Errorf("%s mentions %s, which is missing in docs/settings.md", name, f)
			}
		}
	}
}

// The targets of the links between the documents exist.
func TestLinksInDocuments(t *testing.T) {
	t.Parallel()
	all := documents(t)
	link := regexp.MustCompile(`\]\(([^):]+)\)`)
	for name, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, m[1])
				continue
			}
			if anchor != "" && !strings.Contains(anchors(all[target]), " "+anchor+" ") {
				t.Errorf("%s links to %s, but the document has no such heading", name, m[1])
			}
		}
	}
}

// anchors returns the anchors of a document's headings, each between spaces.
func anchors(text string) string {
	all := " "
	dropped := regexp.MustCompile(`[^a-z0-9 _-]`)
	for line := range strings.Lines(text) {
		if heading, ok := strings.CutPrefix(line, "#"); ok {
			heading = strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#")))
			all += strings.ReplaceAll(dropped.ReplaceAllString(heading, ""), " ", "-") + " "
		}
	}
	return all
}
