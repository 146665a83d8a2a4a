package main

import (
	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/app"
)

const resultsDescription = `Export the results in event logs as a table: CSV, JSON lines or Parquet. Each task is one row, with the
fields of its final event and the keys of its result as columns. A task has no row if it has no final event,
for example if its retry has not run.

Without LOG, the log is events.log; - is standard input. If the logs are not regular files, they are copied to
a temporary file in $TMPDIR first, because they are read several times. The output file gets its name when it is complete.

Examples:
   ctworker results -o results.parquet
   ctworker results --format csv monday.log tuesday.log | head
   zstd -dc events.log.zst | ctworker results -o results.csv -`

func (p process) resultsCommand(code *int) *cli.Command {
	var opts app.ResultsOptions
	return &cli.Command{
		Name:        "results",
		Usage:       "export the results as CSV, JSON lines or Parquet",
		UsageText:   "ctworker results [flags] [LOG…]",
		Description: resultsDescription,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "The `FORMAT`: csv, jsonl or parquet", DefaultText: "the extension of --output, else jsonl", Destination: &opts.Format},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "Write to this `FILE`, and replace it if it exists", DefaultText: "standard output", Destination: &opts.Output},
			&cli.BoolFlag{Name: "all-attempts", Usage: "Export one row per attempt, also of attempts that were retried", Destination: &opts.AllAttempts},
		},
		Action: func(c *cli.Context) (err error) {
			if opts.Logs, err = app.DefaultLogs(c.Args().Slice()); err == nil {
				err = opts.Check()
			}
			if err != nil {
				return &usageError{err.Error(), helpOf("results")}
			}
			*code = app.Results(p.stdin, p.stdout, p.stderr, opts)
			return nil
		},
	}
}
