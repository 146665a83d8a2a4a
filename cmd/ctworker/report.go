package main

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/app"
)

const reportDescription = `Describe a run from its event logs: outcomes and throughput over time, run times, when each slot was busy,
memory, CPU time, the slowest and the largest tasks, failures grouped by message, retries, termination
notices, hosts and costs. The HTML page is a single file that loads nothing. The text is for a terminal.

Without LOG, the log is events.log. Give the logs of all hosts and of all runs that belong together. Tasks
that failed do not change the exit code: it is 0, or 1 after an error. Memory does not depend on the number
of events.

Examples:
   ctworker report
   ctworker report -o report.html
   ctworker report --price 0.34 -o report.html node1.log node2.log`

func (p process) reportCommand(code *int) *cli.Command {
	var opts app.ReportOptions
	var price string
	return &cli.Command{
		Name:        "report",
		Usage:       "describe a run in text or as an HTML page with charts",
		UsageText:   "ctworker report [flags] [LOG…]",
		Description: reportDescription,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "Write the report to this `FILE`, and replace the file if it exists. Without it, to standard output", Destination: &opts.Output},
			&cli.StringFlag{Name: "format", Usage: "text, html or json, as `FORMAT`. By default, the extension of --output determines it; text without --output", Destination: &opts.Format},
			&cli.StringFlag{Name: "price", Usage: "The `PRICE` of one machine per hour; adds the costs to the report", Destination: &price},
		},
		Action: func(c *cli.Context) (err error) {
			if price != "" {
				if opts.Price, err = strconv.ParseFloat(price, 64); err != nil {
					return &usageError{fmt.Sprintf("--price %q: not a number; give the price of one machine per hour, such as 0.34", price), helpOf("report")}
				}
			}
			if opts.Logs, err = app.DefaultLogs(c.Args().Slice()); err != nil {
				return &usageError{err.Error(), helpOf("report")}
			}
			*code = app.Report(c.Context, p.stdout, p.stderr, opts)
			return nil
		},
	}
}
