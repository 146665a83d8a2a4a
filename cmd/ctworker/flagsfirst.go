package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the flags of a command that reads logs before its other arguments. The flag
// parser stops at the first argument that is not a flag. With flagsFirst, "ctworker report
// events.log -o report.html" works. The arguments after --, ::: and :::: are not flags.
func flagsFirst(args []string, commands []*cli.Command) []string {
	if len(args) < 2 {
		return args
	}
	i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == args[1] })
	if i < 0 || !slices.Contains([]string{"failed", "audit", "output", "report", "results"}, args[1]) {
		return args
	}
	var flags, others []string
	rest := args[2:]
	for len(rest) > 0 {
		arg := rest[0]
		if arg == "--" || strings.HasPrefix(arg, ":::") {
			break
		}
		n := 1
		switch {
		case !strings.HasPrefix(arg, "-") || arg == "-":
			others = append(others, arg)
		default:
			if takesValue(arg, commands[i].Flags) && len(rest) > 1 {
				n = 2
			}
			flags = append(flags, rest[:n]...)
		}
		rest = rest[n:]
	}
	return slices.Concat(args[:2], flags, others, rest)
}

// takesValue reports whether the argument after arg is the value of the flag arg.
func takesValue(arg string, flags []cli.Flag) bool {
	name := strings.TrimLeft(arg, "-")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			d, ok := f.(cli.DocGenerationFlag)
			return ok && d.TakesValue()
		}
	}
	return false // also for --name=value
}
