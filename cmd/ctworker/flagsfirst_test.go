package main

import (
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/app"
)

func TestFlagsFirst(t *testing.T) {
	t.Parallel()
	code := app.ExitOK
	commands := process{}.app(nil, &code).Commands
	for in, want := range map[string]string{
		"failed a.log --json b.log":                   "failed --json a.log b.log",
		"failed a.log --kind exited --json":           "failed --kind exited --json a.log",
		"failed a.log --kind=exited":                  "failed --kind=exited a.log",
		"audit a.log --json ::: x --y":                "audit --json a.log ::: x --y",
		"audit a.log --task-file t.json":              "audit --task-file t.json a.log",
		"report a.log -o r.html":                      "report -o r.html a.log",
		"output t1 --output-log o.jsonl -f -- --json": "output --output-log o.jsonl -f t1 -- --json",
		"output t1 --output-log":                      "output --output-log t1",
		"failed - --unknown x":                        "failed --unknown - x",
		"run a --json":                                "run a --json",
		"":                                            "",
	} {
		args := append([]string{"ctworker"}, strings.Fields(in)...)
		if got := strings.Join(flagsFirst(args, commands)[1:], " "); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
