package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/conformance"
	"github.com/ctworker/ctworker/internal/help"
)

const checkDescription = `Run COMMAND through the task protocol, as "ctworker run --isolation reuse" would, and report
each violation. The tasks are simulated, so COMMAND may reply with an exception instead of a result. The
protocol is described in docs/protocol.md.

The exit code is 0 if there is no violation, and 1 otherwise.

Example:
   ctworker protocol-check -- perl worker.pl`

func (p process) checkCommand(code *int) *cli.Command {
	return &cli.Command{
		Name:        "protocol-check",
		Usage:       "check a program that speaks the task protocol",
		UsageText:   "ctworker protocol-check [--timeout SECONDS] -- COMMAND [ARGS…]",
		Description: checkDescription,
		Flags: []cli.Flag{&cli.Float64Flag{
			Name: "timeout", Usage: "Wait at most `SECONDS` for each line, and for the exit", Value: 10,
		}},
		Action: func(c *cli.Context) error {
			timeout := time.Duration(c.Float64("timeout") * float64(time.Second))
			switch {
			case timeout <= 0:
				return &usageError{"--timeout: give a number of seconds above 0, such as 10", helpOf("protocol-check")}
			case c.NArg() == 0:
				return &usageError{"no command: give it after --, as in: ctworker protocol-check -- perl worker.pl", helpOf("protocol-check")}
			}
			var writeErr error
			fine, err := conformance.Run(c.Args().Slice(), timeout, func(f conformance.Finding) {
				text := fmt.Sprintf("ok     %s\n", f.Case)
				if f.Err != nil {
					text = fmt.Sprintf("WRONG  %s\n       %v\n", f.Case, f.Err)
				}
				writeErr = cmp.Or(writeErr, help.Write(p.stdout, text))
			})
			if err != nil {
				return &usageError{fmt.Sprintf("command: %v", err), helpOf("protocol-check")}
			}
			if writeErr != nil {
				_, _ = fmt.Fprintf(p.stderr, "ctworker: %v\n", writeErr)
			}
			if !fine || writeErr != nil {
				*code = app.ExitFatal
			}
			return nil
		},
	}
}
