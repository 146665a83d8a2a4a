package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/inputs"
)

const failedDescription = `List the tasks that failed, one per line: the task ID, the outcome (exception, exited or
timed_out), the number of the attempt, and the reason, separated by tabs. A task has failed if the last
final event of the task in the event logs reports a failure.

Without LOG, the log is events.log. The exit code is 0 if no task failed, 3 if tasks failed, and 1 after an
error.

Examples:
   ctworker failed
   ctworker failed --kind timed_out monday.log tuesday.log
   ctworker failed --tasks failed.jsonl --task-file tasks.json`

func (p process) failedCommand(code *int) *cli.Command {
	var opts app.FailedOptions
	var csv string
	return &cli.Command{
		Name:        "failed",
		Usage:       "list the tasks that failed, with the reasons",
		UsageText:   "ctworker failed [flags] [LOG…]",
		Description: failedDescription,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "kind", Usage: "List only these failures: exception, exited or timed_out, or several of them, as `KIND[,KIND…]`", Destination: &opts.Kinds},
			&cli.BoolFlag{Name: "json", Usage: "Print one JSON object per task", Destination: &opts.JSON},
			&cli.StringFlag{Name: "tasks", Usage: "Write the failed tasks of --task-file to this new task `FILE`, in JSON lines", Destination: &opts.Tasks},
			&cli.StringFlag{Name: "task-file", Usage: "The task `FILE` of the run, for --tasks", Destination: &opts.TaskFile},
			csvFlag(&csv),
		},
		Action: func(c *cli.Context) (err error) {
			if csv != "" {
				opts.TaskFile, opts.Format.CSV = csv, true
			}
			if opts.Logs, err = app.DefaultLogs(c.Args().Slice()); err != nil {
				return &usageError{err.Error(), helpOf("failed")}
			}
			*code = app.Failed(c.Context, p.stdout, p.stderr, opts)
			return nil
		},
	}
}

const auditDescription = `Prove that no task was lost or repeated: compare a task file, or the inputs of ctworker run, with event
logs. Each task must have
exactly one final event, that is, a task event whose field retry is false. An event with the field rerun
replaces an earlier one. If a task file contains a task ID several times, the ID must have as many events.

Without LOG, the log is events.log. Give all logs of the run, in the order in which they were written. The
exit code is 0 if the proof succeeds. It is 1 after an error, and if tasks are missing, repeated or unknown,
or have contradictory events. Memory does not depend on the number of tasks. The temporary files take up to
50 bytes per task in $TMPDIR.

Examples:
   ctworker audit --task-file tasks.json
   ctworker audit events.log ::: *.fits`

func (p process) auditCommand(code *int) *cli.Command {
	var opts app.AuditOptions
	var csv string
	return &cli.Command{
		Name:        "audit",
		Usage:       "prove that each task has exactly one final event",
		UsageText:   "ctworker audit [--json] [--task-file FILE] [LOG…] [::: INPUT… | :::: FILE]",
		Description: auditDescription,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "task-file", Usage: "The task `FILE` of the run; a local file, or a gs://, s3:// or http(s):// address", Destination: &opts.TaskFile},
			csvFlag(&csv),
			&cli.BoolFlag{Name: "json", Usage: "Print each finding and then the result as a JSON object", Destination: &opts.JSON},
		},
		Action: func(c *cli.Context) (err error) {
			if csv != "" {
				opts.TaskFile, opts.Format.CSV = csv, true
			}
			if err := auditTasks(&opts, c.Args().Slice()); err != nil {
				return &usageError{err.Error(), helpOf("audit")}
			}
			*code = app.Audit(c.Context, p.stdout, p.stderr, opts)
			return nil
		},
	}
}

// auditTasks sets the sources of the tasks and the event logs of an audit.
func auditTasks(opts *app.AuditOptions, args []string) error {
	logs, in, err := inputs.Cut(args)
	switch {
	case err != nil:
		return err
	case in == nil && opts.TaskFile == "":
		return errors.New("--task-file is missing; give the task file of the run, or, after :::, the inputs of the run")
	case in != nil && opts.TaskFile != "":
		return errors.New("--task-file cannot be combined with inputs after ::: or ::::, because both provide the tasks; remove the flag or the inputs")
	case in != nil && in.File == "-":
		return errors.New("the inputs after :::: may have to be read twice; give the name of a file")
	case in != nil:
		opts.Inputs, opts.TaskFile, opts.Format.Lines = in.Tasks(), in.File, in.File != ""
	}
	opts.Logs, err = app.DefaultLogs(logs)
	return err
}

func csvFlag(file *string) cli.Flag {
	return &cli.StringFlag{Name: "csv", Usage: "Like --task-file, for a CSV `FILE` with any name", Destination: file}
}
