package main

import (
	"strings"
	"testing"
)

// For a misspelled flag or command, one line suggests the right name, and another line names the
// help of the command.
func TestUsage_SuggestsFlagsAndCommands(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"load --taskfile x":                     `--taskfile: unknown flag; did you mean --task-file?|ctworker help load`,
		"load tasks.json":                       `unexpected argument "tasks.json"; did you mean --task-file tasks.json?|ctworker help load`,
		"load --task-file":                      `--task-file: the value is missing|ctworker help load`,
		"load --max-num-tasks x":                `--max-num-tasks "x": not a number|ctworker help load`,
		"load --limit 5":                        `--limit: unknown flag; use --max-num-tasks|ctworker help load`,
		"load --start-task 5":                   `--start-task: unknown flag; use --tasks-to-skip with a value that is lower by one: --tasks-to-skip 5000 instead of --start-task 5001|ctworker help load`,
		"lod":                                   `"lod" is not a command of ctworker; did you mean "load"?|ctworker help`,
		"xyzzy":                                 `"xyzzy" is not a command of ctworker: give run, failed, results, output, audit, report, load, events, monitor, queue, protocol-check, help, completion or version|ctworker help`,
		"--hlep":                                `--hlep: unknown flag; did you mean --help?|ctworker help`,
		"events --outptu x":                     `--outptu: unknown flag; did you mean --output?|ctworker help events`,
		"queue stats":                           `"stats" is not a command of ctworker queue; did you mean "status"?|ctworker help queue`,
		"queue --yes":                           `--yes: unknown flag|ctworker help queue`,
		"queue status --jso":                    `--jso: unknown flag; did you mean --json?|ctworker help queue status`,
		"queue create --tasks=maybe":            `--tasks "maybe": not a boolean; give true or false|ctworker help queue create`,
		"protocol-check --time 3 x":             `--time: unknown flag; did you mean --timeout?|ctworker help protocol-check`,
		"":                                      `no command: give run, failed, results, output, audit, report, load, events, monitor, queue, protocol-check, help, completion or version|ctworker help`,
		"completio":                             `"completio" is not a command of ctworker; did you mean "completion"?|ctworker help`,
		"compile":                               `"compile" is not a command of ctworker: give run, failed, results, output, audit, report, load, events, monitor, queue, protocol-check, help, completion or version|ctworker help`,
		"completion tcsh":                       `"tcsh" is not a known shell: give bash, zsh or fish|ctworker help completion`,
		"completion --shell bash":               `give the name of the shell without a flag, as in: ctworker completion bash|ctworker help completion`,
		"run tasks.csv.gz -- x":                 `"tasks.csv.gz": unexpected argument; to run the tasks of this file, use --task-file tasks.csv.gz|ctworker help run`,
		"run --task-file=x --start-task 5 -- x": `--start-task "5": unknown flag; use --tasks-to-skip with a value that is lower by one: --tasks-to-skip 5000 instead of --start-task 5001|ctworker help run`,
		"completion":                            `give one shell: bash, zsh or fish|ctworker help completion`,
		"help lod":                              `"lod" is not a command of ctworker; did you mean "load"?|ctworker help`,
		"help queue stats":                      `"stats" is not a command of ctworker queue; did you mean "status"?|ctworker help queue`,
		"help run x":                            `unexpected argument "x": ctworker run has no commands|ctworker help run`,
		"queue":                                 `no command: give status, create, purge or delete|ctworker help queue`,
		"version x":                             `unexpected argument "x"|ctworker help version`,
		"load --help=maybe":                     `--help "maybe": not a boolean; give true or false|ctworker help load`,
		"protocol-check -- no-such-program":     `command: exec: "no-such-program": executable file not found in $PATH|ctworker help protocol-check`,
		"protocol-check":                        `no command: give it after --, as in: ctworker protocol-check -- perl worker.pl|ctworker help protocol-check`,
		"run --task-file=x --verbos x":          `--verbos: unknown flag; did you mean --verbose?|ctworker help run`,
	} {
		in := prepare(t, t.TempDir(), strings.Fields(args)...).start()
		in.want(2)
		reason, help, _ := strings.Cut(want, "|")
		if got, want := in.stderr.String(), "ctworker: "+reason+"\nctworker: nothing was run; see \""+help+"\"\n"; got != want || in.stdout.String() != "" {
			t.Errorf("%s: wrote\n%s%s\nwant\n%s", args, got, in.stdout.String(), want)
		}
	}
}
