// Command ctworker runs a command over a very large set of tasks, in parallel,
// each in a process of its own. See the README, or "ctworker help".
package main

import (
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/help"
	"github.com/ctworker/ctworker/internal/procexec"
)

func main() {
	procexec.RunGuard() // in the guard process, it does not return
	if code := app.Begin(os.Stderr, "ctworker"); code != app.ExitOK {
		os.Exit(code)
	}
	os.Exit(process{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}.main(os.Args))
}

// process is one execution of ctworker, with its standard streams.
type process struct {
	stdin          io.Reader
	stdout, stderr *os.File
}

// main runs the command line and returns the exit code.
func (p process) main(args []string) int {
	code := app.ExitOK
	args, faults := normalized(args)
	command := p.app(faults, &code)
	if err := command.Run(flagsFirst(args, command.Commands)); err != nil {
		return p.failed(err)
	}
	return code
}

const description = `A set of tasks is a file or a queue of AWS or GCP. "ctworker run" runs a command for each
task. "ctworker load", "ctworker monitor" and "ctworker queue" fill a queue, watch the job and
collect its results, and manage the queues of a job.

Documentation: https://github.com/ctworker/ctworker

Examples:
   ctworker run --task-file tasks.json -j auto -- ./process {task_id}
   ctworker load --provider AWS --job-id demo --task-file tasks.json --create
   ctworker run --provider AWS --job-id demo -j auto -- ./process {task_id}`

// app returns the app with all commands. The command that runs stores its exit code in code. faults
// are the errors in the arguments that normalized has found.
func (p process) app(faults config.Errors, code *int) *cli.App {
	var showVersion bool
	app := &cli.App{
		Name:        "ctworker",
		Usage:       "run a command over a very large set of tasks, and lose none of them",
		Description: description,
		Commands: []*cli.Command{
			p.runCommand(faults, code), p.failedCommand(code), p.resultsCommand(code), p.outputCommand(code), p.auditCommand(code), p.reportCommand(code), p.loadCommand(code), p.eventsCommand(code), p.monitorCommand(code), p.queueCommand(code),
			p.engineCommand(faults, code), p.checkCommand(code),
		},
		Flags: []cli.Flag{&help.Switch{
			Flag: help.Flag{Names: []string{"version", "v"}, Usage: "Print the version", Category: help.CategoryHelp}, Set: &showVersion,
		}},
		Writer:         p.stdout,
		ErrWriter:      p.stderr,
		HideHelp:       true,
		HideVersion:    true,
		ExitErrHandler: func(*cli.Context, error) {},
	}
	app.Commands = append(app.Commands, p.helpCommand(app), p.completionCommand(app), p.versionCommand())
	app.Action = func(c *cli.Context) error {
		switch {
		case showVersion:
			return p.print(versionText())
		case c.NArg() > 0:
			return unknownCommand(c.Args().First(), "", app.Commands)
		}
		return &usageError{"no command: give " + list(visible(app.Commands)), helpOf("")}
	}
	p.addHelp(app)
	return app
}

// normalized prepares the arguments of "run" and "engine" for the flag parser, and returns the
// errors in these arguments.
func normalized(args []string) ([]string, config.Errors) {
	if len(args) < 2 || args[1] != "run" && args[1] != "engine" {
		return args, nil
	}
	fixed, faults := config.Normalize(args[2:])
	return append(append([]string(nil), args[:2]...), fixed...), faults
}
