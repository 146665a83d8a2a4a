package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker"
	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/inputs"
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/sources/function"
)

const runDescription = `Run COMMAND once for each task, --num-simultaneous-tasks at a time.

COMMAND reads its task from standard input as one JSON object,
{"task_id": …, "data": …}. In ARGS, {task_id} and {data.KEY} are replaced by the values of
the task. No shell is used. Exit code 0 completes the task, 75 completes it and requests a
retry, and any other code is reported as task_exited. Standard output is the result of the
task; standard error goes to the log.

Each row of a CSV file is a task after the first row, which names the columns: {data.COLUMN} is
the value in a column.

Without a task file, there is one task for each INPUT, or for each line of FILE (- is standard
input). In ARGS, {} is replaced by the input. If ARGS has no placeholder, the input becomes the
last argument. The input is also the task_id, and {"value": INPUT} is the data.

The value of a setting is taken from the command line, then from its environment variable,
then from the config file, and is otherwise its default.

ctworker itself exits with 0 if the run finished, whatever the outcomes of its tasks; 1 after
a fatal error; 2 if the command line or a setting is invalid; 3 with --strict if a task did not
complete; 4 if the run ended because of --max-failures or --max-consecutive-failures; 128 plus
the number of the signal that stopped the run.

Examples:
   ctworker run -j auto -- gzip -k {} ::: *.fits
   ctworker run --task-file tasks.json -j auto -- ./process {task_id}
   ctworker run --csv sites.csv -j auto -- ./simulate {data.lat} {data.lon}
   ctworker run --provider AWS --job-id images -j auto -- ./process {task_id}
   ctworker run --config worker.yaml --print-config`

func (p process) runCommand(faults config.Errors, code *int) *cli.Command {
	var line config.Flags
	return &cli.Command{
		Name:         "run",
		Usage:        "run a command for each task of a task file or of a queue",
		UsageText:    "ctworker run [flags] -- COMMAND [ARGS…] [::: INPUT… | :::: FILE]",
		Description:  runDescription,
		Flags:        config.FlagsOf(&line),
		OnUsageError: func(_ *cli.Context, err error, _ bool) error { return err },
		Action: func(c *cli.Context) error {
			argv, in, err := inputs.Split(c.Args().Slice())
			if err != nil {
				return err
			}
			cfg, err := config.Load(config.Sources{Line: line, Faults: faults, LookupEnv: os.LookupEnv, TaskSource: in != nil})
			if in != nil {
				err = errors.Join(err, checkInputs(line))
			}
			if len(argv) == 0 && (err != nil || !cfg.PrintConfig) {
				err = errors.Join(err, errors.New("no command: give it after the flags, as in: ctworker run --task-file tasks.json -- ./process"))
			}
			if err != nil {
				return err
			}
			if cfg.PrintConfig {
				return p.printConfig(cfg)
			}
			reuse := cfg.Isolation == config.IsolationReuse
			if !reuse {
				addSchedulerProc()
			} else if err := procexec.CheckNoPlaceholders(argv); err != nil {
				return err
			}
			opts := app.Options{
				Version: ctworker.Version,
				Argv:    argv, TaskProtocol: reuse, OwnsProcess: true, Command: os.Args, FlagsAt: 2, FlagsEnd: len(os.Args) - c.NArg(), // the flags begin after "run"
				Stdin: p.stdin, Stderr: p.stderr, Name: "ctworker", Help: helpOf("run"),
			}
			if in != nil {
				if opts.InputFile = in.File; in.File == "" {
					opts.Source, opts.Recount = function.New(in.Tasks()), in.Tasks()
				}
			}
			*code = app.Run(cfg, opts)
			return nil
		},
	}
}

// checkInputs returns an error if the command line also has a flag for a task file.
func checkInputs(line config.Flags) error {
	for _, f := range line {
		if f.Name == "task-file" || f.Name == "csv" {
			return fmt.Errorf("--%s cannot be combined with inputs after ::: or ::::, because both provide the tasks; remove the flag or the inputs", f.Name)
		}
	}
	return nil
}

// addSchedulerProc increments GOMAXPROCS, because starting a process (vfork) blocks one of the
// processors of the Go scheduler. This makes runs of short tasks about 20 % faster.
func addSchedulerProc() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}
