package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker"
	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/internal/taskproto"
)

const engineDescription = `The Python package starts this command to run the tasks of a Python program in forks of
that program. Do not start it yourself: run the program, as in
"python3 worker.py --task-file tasks.json", or a command with "ctworker run".`

func (p process) engineCommand(faults config.Errors, code *int) *cli.Command {
	var line config.Flags
	return &cli.Command{
		Name:         "engine",
		Usage:        "run the tasks of a Python program, which starts this command",
		UsageText:    "ctworker engine [flags]",
		Description:  engineDescription,
		Hidden:       true,
		Flags:        config.ProgramFlags(&line, config.Python),
		OnUsageError: func(_ *cli.Context, err error, _ bool) error { return err },
		Action: func(c *cli.Context) error {
			host, err := openHost()
			if err == nil && c.NArg() > 0 {
				err = fmt.Errorf("unexpected argument %q: give only flags", c.Args().First())
			}
			if err != nil {
				*code = app.Usage(p.stderr, "ctworker", helpOf("engine"), err)
				return nil
			}
			*code = p.engine(host, line, faults)
			return nil
		},
	}
}

// engine runs the tasks of the Python program to which host is connected.
func (p process) engine(host *procexec.ForkServer, line config.Flags, faults config.Errors) int {
	help := host.Hello.Program + " --help"
	source := host.Hello.Source
	cfg, err := config.Load(config.Sources{
		Line: line, Faults: faults, LookupEnv: os.LookupEnv, TaskSource: source != nil, SDK: config.Python,
	})
	if err != nil {
		return app.Usage(p.stderr, "ctworker", help, err)
	}
	if cfg.PrintConfig {
		if err := p.printConfig(cfg); err != nil {
			return p.failed(err)
		}
		return app.ExitOK
	}
	if source != nil {
		cfg.TaskFile = source.File
	}
	command := programCommand(host.Hello.Argv)
	flagsAt := slices.Index(command, "--")
	if flagsAt < 0 {
		flagsAt = len(command)
	}
	return app.Run(cfg, app.Options{
		Version:    ctworker.Version,
		ForkServer: host, OwnsProcess: true, Command: command, FlagsAt: flagsAt,
		Stdin: p.stdin, Stderr: p.stderr, Name: "ctworker", Help: help,
	})
}

// programCommand returns the command line of the Python program as a user would type it: without the
// folder of the interpreter if this folder is in PATH.
func programCommand(argv []string) []string {
	if len(argv) == 0 {
		return nil
	}
	name := filepath.Base(argv[0])
	if found, err := exec.LookPath(name); err == nil && found == argv[0] {
		return append([]string{name}, argv[1:]...)
	}
	return argv
}

// openHost opens the connection to the program that has started this process. It removes the
// variable that contains the descriptor from the environment, because child processes must not use
// the connection.
func openHost() (*procexec.ForkServer, error) {
	text := os.Getenv(taskproto.ControlFDVar)
	if text == "" {
		return nil, errors.New(`only the Python package starts "ctworker engine": run your Python program, or use "ctworker run"`)
	}
	_ = os.Unsetenv(taskproto.ControlFDVar)
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 0 {
		return nil, fmt.Errorf("%s=%q is not a file descriptor", taskproto.ControlFDVar, text)
	}
	return procexec.OpenForkServer(fd)
}
