// Command ctworker runs a command over a very large set of tasks, in parallel,
// each in a process of its own. See the README, or "ctworker run --help".
package main

import (
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker"
	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/procexec"
)

func main() {
	procexec.RunGuard() // does not return in the process that is the guard
	if code := app.Begin(os.Stderr, "ctworker"); code != app.ExitOK {
		os.Exit(code)
	}
	os.Exit(process{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}.main(os.Args))
}

// process is one run of ctworker.
type process struct {
	stdin          io.Reader
	stdout, stderr *os.File
}

// main runs the command line and returns the exit code.
func (p process) main(args []string) int {
	code := app.ExitOK
	args, faults := normalized(withHelp(args))
	var app *cli.App
	app = &cli.App{
		Name:            "ctworker",
		Usage:           "run a command over a very large set of tasks, and lose none of them",
		Version:         ctworker.Version,
		Writer:          p.stdout,
		ErrWriter:       p.stderr,
		HideHelpCommand: true,
		Commands: []*cli.Command{
			p.runCommand(faults, &code), p.loadCommand(&code), p.eventsCommand(&code), p.queueCommand(&code),
			p.engineCommand(faults, &code), p.checkCommand(&code),
		},
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   wrongFlag("", func() []cli.Flag { return app.Flags }),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return unknownCommand(c.Args().First(), "", c.App.Commands)
			}
			_ = cli.ShowAppHelp(c)
			return &usageError{"no command was given", helpOf("")}
		},
	}
	if err := app.Run(args); err != nil {
		return p.usage(err)
	}
	return code
}

// normalized prepares the arguments of "run" and "engine" for the flag parser,
// and returns what is wrong with them.
func normalized(args []string) ([]string, config.Errors) {
	if len(args) < 2 || args[1] != "run" && args[1] != "engine" {
		return args, nil
	}
	fixed, faults := config.Normalize(args[2:])
	return append(append([]string(nil), args[:2]...), fixed...), faults
}

// runHelp is the command that shows what "run" takes.
const runHelp = "ctworker run --help"
