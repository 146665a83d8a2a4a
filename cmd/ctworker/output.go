package main

import (
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/app"
)

const outputDescription = `Show what tasks have printed, according to the file that the run wrote with --output-log. With
one task ID, the lines are printed as they are. With several task IDs, or none, the task ID stands before each
line. Control characters are escaped on a terminal.

The exit code is 1 if the file contains no output of one of the tasks.

Examples:
   ctworker output --output-log out.jsonl image-0007
   ctworker output --output-log out.jsonl.zst --stream stderr --timestamps image-0007 image-0008
   ctworker output --output-log out.jsonl --follow`

func (p process) outputCommand(code *int) *cli.Command {
	var opts app.OutputOptions
	return &cli.Command{
		Name:        "output",
		Usage:       "show what tasks have printed",
		UsageText:   "ctworker output --output-log FILE [flags] [TASK_ID…]",
		Description: outputDescription,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output-log", Usage: "The `FILE` of the run's --output-log", EnvVars: []string{"RMS_CLOUD_TASKS_OUTPUT_LOG"}, Destination: &opts.File},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "Wait for further lines, until Ctrl-C", Destination: &opts.Follow},
			&cli.StringFlag{Name: "stream", Usage: "Show only this `STREAM`: stdout or stderr", Destination: &opts.Stream},
			&cli.IntFlag{Name: "attempt", Usage: "Show only attempt `N`, counted from 1", Destination: &opts.Attempt, DefaultText: "all"},
			&cli.BoolFlag{Name: "timestamps", Usage: "Print the time before each line", Destination: &opts.Timestamps},
		},
		Action: func(c *cli.Context) error {
			opts.TaskIDs = c.Args().Slice()
			if c.IsSet("attempt") && opts.Attempt == 0 {
				opts.Attempt = -1
			}
			if err := app.CheckOutputOptions(opts); err != nil {
				return &usageError{err.Error(), helpOf("output")}
			}
			ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			*code = app.ShowOutput(ctx, p.stdout, p.stderr, opts)
			return nil
		},
	}
}
