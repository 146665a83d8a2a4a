package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/app"
)

const monitorDescription = `Collect the events of a job in an event log, and show the job: progress, rate, time left,
failures by reason, and all workers. A worker without a keep_alive event for three intervals is shown as
silent. At a terminal, the command shows a screen (press ? for the keys). Otherwise, it logs a line
every 10 seconds.

An event is deleted from the event queue after it is on disk. Start the command again to continue: it
derives its state from the event log. An event that is delivered twice counts once.

"ctworker load" reports the number of tasks. For tasks that were loaded in another way, give --total or
--task-file.

With --until-complete, the command ends when every task has a final event. The exit code is then 0 if all
tasks completed, and 3 if some failed.

Examples:
   ctworker monitor --provider AWS --job-id demo
   ctworker monitor --provider AWS --job-id demo --event-log-file demo.log --until-complete`

func (p process) monitorCommand(code *int) *cli.Command {
	var csv string
	return p.tool(code, "monitor", &cli.Command{
		Name:        "monitor",
		Usage:       "collect the events of a job, and show its progress and workers",
		UsageText:   "ctworker monitor [flags]",
		Description: monitorDescription,
	}, nil, []cli.Flag{
		&cli.StringFlag{Name: "event-log-file", Usage: "Append the events to this local `FILE`, and derive the state of the job from it at the start", Value: "events.log"},
		&cli.BoolFlag{Name: "until-complete", Usage: "Exit when every task has a final event"},
		&cli.Int64Flag{Name: "total", Usage: "The job has `N` different tasks", DefaultText: "as \"ctworker load\" has reported", Value: -1},
		&cli.StringFlag{Name: "task-file", Usage: "Count the tasks in this task `FILE`, if --total is not given; a local file, or a gs://, s3:// or http(s):// address"},
		csvFlag(&csv),
	}, func(c *cli.Context, t *app.Tool) (int, error) {
		opts := app.MonitorOptions{
			EventLog: c.String("event-log-file"), Total: c.Int64("total"), TaskFile: c.String("task-file"),
			UntilComplete: c.Bool("until-complete"), Command: os.Args,
		}
		if csv != "" {
			opts.TaskFile, opts.Format.CSV = csv, true
		}
		switch {
		case c.IsSet("total") && opts.Total < 0:
			return 0, fmt.Errorf("--total %d: give 0 or more", opts.Total)
		case opts.EventLog == "":
			return 0, errors.New("--event-log-file: give the name of a file")
		case opts.TaskFile == "-":
			return 0, errors.New("--task-file -: give the name of a file, because standard input is read for keys")
		}
		return t.Monitor(opts), nil
	})
}
