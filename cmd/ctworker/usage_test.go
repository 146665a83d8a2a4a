package main

import (
	"strings"
	"testing"
)

// For a misspelled flag or command, one line suggests the right one and another names the help of
// the command.
func TestUsage_SuggestsFlagsAndCommands(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"load --taskfile x":            `--taskfile: unknown flag; did you mean --task-file?|ctworker load --help`,
		"load tasks.json":              `unexpected argument "tasks.json"; did you mean --task-file tasks.json?|ctworker load --help`,
		"load --task-file":             `--task-file: no value; give one|ctworker load --help`,
		"load --limit x":               `--limit "x": not a number|ctworker load --help`,
		"lod":                          `"lod" is not a command of ctworker; did you mean "load"?|ctworker --help`,
		"xyzzy":                        `"xyzzy" is not a command of ctworker: give run, load, events, queue or protocol-check|ctworker --help`,
		"--hlep":                       `--hlep: unknown flag; did you mean --help?|ctworker --help`,
		"events --outptu x":            `--outptu: unknown flag; did you mean --output?|ctworker events --help`,
		"queue stats":                  `"stats" is not a command of ctworker queue; did you mean "status"?|ctworker queue --help`,
		"queue --yes":                  `--yes: unknown flag|ctworker queue --help`,
		"queue status --jso":           `--jso: unknown flag; did you mean --json?|ctworker queue status --help`,
		"queue create --tasks=maybe":   `--tasks "maybe": not a boolean; give true or false|ctworker queue create --help`,
		"protocol-check --time 3 x":    `--time: unknown flag; did you mean --timeout?|ctworker protocol-check --help`,
		"protocol-check":               `no command: give it after --, as in: ctworker protocol-check -- perl worker.pl|ctworker protocol-check --help`,
		"run --task-file=x --verbos x": `--verbos: unknown flag; did you mean --verbose?|ctworker run --help`,
	} {
		in := prepare(t, t.TempDir(), strings.Fields(args)...).start()
		in.want(2)
		reason, help, _ := strings.Cut(want, "|")
		if got, want := in.stderr.String(), "ctworker: "+reason+"\nctworker: nothing was run; see \""+help+"\"\n"; got != want || in.stdout.String() != "" {
			t.Errorf("%s: wrote\n%s%s\nwant\n%s", args, got, in.stdout.String(), want)
		}
	}
	in := prepare(t, t.TempDir(), "help", "queue", "status").start()
	in.want(0)
	if !strings.Contains(in.stdout.String(), "ctworker queue status") {
		t.Errorf("help shows %s", in.stdout.String())
	}
}
