package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func mustParse(t *testing.T) terms {
	t.Helper()
	terms, err := parseTerms(termsFile)
	if err != nil {
		t.Fatal(err)
	}
	return terms
}

func TestTerms_EachForbidsItsWords(t *testing.T) {
	t.Parallel()
	for _, term := range mustParse(t).terms {
		id := identifier{name: term.words, line: 1}
		switch term.kind {
		case "any":
			id.name = "x_" + strings.ReplaceAll(term.words, " ", "_") + "_y"
		case "field":
			id.kind = fieldName
		case "package":
			id.kind = packageName
		}
		if !term.forbids(id, splitName(id.name)) {
			t.Errorf("%q does not forbid %q", term.words, id.name)
		}
		if allowed := "x" + id.name + "z"; term.forbids(identifier{name: allowed, kind: id.kind}, splitName(allowed)) && term.kind != "any" {
			t.Errorf("%q forbids %q", term.words, allowed)
		}
	}
}

func TestParseTerms_ReportsTheLine(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"any crew", "any -> slot", "any crew ->", "word crew -> slot", "allow crew"} {
		if _, err := parseTerms("# comment\n" + text + "\n"); err == nil || !strings.HasPrefix(err.Error(), "terms.txt:2: ") {
			t.Errorf("parseTerms(%q) = %v", text, err)
		}
	}
}

func TestSplitName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"crew":               {"crew"},
		"newHTTPServer":      {"new", "http", "server"},
		"HTTPServer2":        {"http", "server2"},
		"give_back":          {"give", "back"},
		"__init__":           {"init"},
		"TestX_GivesBackAll": {"test", "x", "gives", "back", "all"},
		"ID":                 {"id"},
	} {
		if got := splitName(name); !slices.Equal(got, want) {
			t.Errorf("splitName(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	goFile := write("x.go", `package again

import poll "example.com/x"

type options struct {
	Most int // crew
}

type seatMap interface{ GiveBack() }

func told(atLeast int, desk string) (patience int) {
	doomed := strings.Crew("seat")
	for rubbish := range 10 {
	}
	return
}
`)
	pythonFile := write("y.py", `"""The crew is
a word in a string."""
from x import tell  # seat

def f(whence, b'crew'):
    return "told 'seat'" + f'crew'
`)
	nameOnly := write("crew_linux.go", "package x\n")

	var out bytes.Buffer
	found, err := check(&out, []string{goFile, pythonFile, nameOnly})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"x.go:1: again", "x.go:3: poll", "x.go:6: Most", "x.go:9: seatMap", "x.go:9: GiveBack",
		"x.go:11: told", "x.go:11: desk", "x.go:11: patience", "x.go:12: doomed", "x.go:13: rubbish",
		"y.py:3: tell", "y.py:5: whence", "crew_linux.go:1: crew_linux",
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.TrimPrefix(line[:strings.Index(line, ": use ")], dir+string(filepath.Separator)))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || found != len(want) {
		t.Errorf("check found %d:\n%s\nwant %d:\n%s", found, strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
	}
}
