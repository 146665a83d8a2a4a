package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/help"
)

// usageError is an error in the command line.
type usageError struct {
	reason string
	help   string // command that prints the usage
}

// Error returns the reason.
func (e *usageError) Error() string { return e.reason }

// usage writes the errors in the command line or the configuration to standard error, and returns
// the exit code.
func (p process) usage(err error) int {
	help := helpOf("run")
	if fault := (*usageError)(nil); errors.As(err, &fault) {
		help = fault.help
	}
	return app.Usage(p.stderr, "ctworker", help, err)
}

// helpOf returns the command that prints the complete help of a command, such as "queue status",
// or of ctworker if command is empty.
func helpOf(command string) string { return strings.TrimSpace("ctworker help " + command) }

// wrongFlag returns a handler for the errors of the flag parser. flags returns the flags of the
// command.
func wrongFlag(command string, flags func() []cli.Flag) cli.OnUsageErrorFunc {
	return func(_ *cli.Context, err error, _ bool) error {
		return &usageError{explainFlag(err.Error(), flags()), helpOf(command)}
	}
}

var invalidValue = regexp.MustCompile(`^invalid (?:boolean )?value (".*") for (?:flag )?-([^:]+): `)

// explainFlag rewrites text, an error of package flag, and adds a suggestion if a flag is
// misspelled.
func explainFlag(text string, flags []cli.Flag) string {
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		if instead := config.RemovedFlag(name); instead != "" {
			return fmt.Sprintf("%s: unknown flag; use %s", dashed(name), instead)
		}
		var names []string
		for _, f := range flags {
			names = append(names, f.Names()...)
		}
		if near := config.Suggest(name, names); near != "" {
			return fmt.Sprintf("%s: unknown flag; did you mean %s?", dashed(name), dashed(near))
		}
		return dashed(name) + ": unknown flag"
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return dashed(name) + ": the value is missing"
	}
	if m := invalidValue.FindStringSubmatch(text); m != nil {
		kind := "number"
		for _, f := range flags {
			if slices.Contains(f.Names(), m[2]) && help.DescribeFlag(f).Arg == "" {
				kind = "boolean; give true or false"
			}
		}
		return fmt.Sprintf("%s %s: not a %s", dashed(m[2]), m[1], kind)
	}
	return text
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// unknownCommand returns the error for a word that is not a subcommand of command. If command is
// empty, the error states that the parameter word is not a command of ctworker.
func unknownCommand(word, command string, commands []*cli.Command) error {
	whole := strings.TrimSpace("ctworker " + command)
	names := visible(commands)
	if near := config.Suggest(word, names); near != "" {
		return &usageError{fmt.Sprintf("%q is not a command of %s; did you mean %q?", word, whole, near), helpOf(command)}
	}
	return &usageError{fmt.Sprintf("%q is not a command of %s: give %s", word, whole, list(names)), helpOf(command)}
}

// visible returns the names of the commands that are not hidden.
func visible(commands []*cli.Command) (names []string) {
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

// unexpected returns the error for an argument that is not a flag, with a suggestion.
func unexpected(arg, command string, flags []cli.Flag) error {
	hint := ""
	for _, f := range flags {
		if name := f.Names()[0]; name == arg || name == "task-file" && config.IsTaskFileName(arg) {
			hint = "; did you mean " + strings.TrimSpace(dashed(name)+" "+strings.TrimPrefix(arg, name)) + "?"
			break
		}
	}
	return &usageError{fmt.Sprintf("unexpected argument %q%s", arg, hint), helpOf(command)}
}

func list(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
