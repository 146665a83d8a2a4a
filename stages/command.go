package stages

import (
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/procexec"
)

// Command is a Runner that runs each task as a process of its own.
func Command(c *procexec.Command) Runner { return command{c} }

type command struct{ c *procexec.Command }

func (c command) Run(phases pipeline.Phases, slot int, d *pipeline.Delivery) (pipeline.Outcome, error) {
	report, err := c.c.Run(
		procexec.Task{ID: d.Task.ID, Data: d.Task.Data, Attempt: d.Attempt, Slot: slot},
		procexec.Ends{Term: phases.Work.Done(), Kill: phases.Kill.Done(), Drop: d.Lost(), Stop: phases.Fetch.Done()},
	)
	if err != nil {
		return pipeline.Outcome{}, err
	}
	return outcomeOf(report), nil
}

// outcomeOf is a report in the pipeline's words.
func outcomeOf(report procexec.Report) pipeline.Outcome {
	o := pipeline.Outcome{
		Kind:        kinds[report.End],
		Elapsed:     report.Elapsed,
		Retry:       report.Retry,
		Result:      report.Result,
		ResultBytes: report.ResultBytes,
		Exception:   report.Exception,
		NoRetry:     report.NoRetry,
		ExitCode:    report.ExitCode,
	}
	if report.PeakMemory > 0 { // it had a process of its own
		o.Usage = &pipeline.Usage{CPU: report.CPU, PeakMemory: report.PeakMemory}
	}
	return o
}

// kinds are procexec's ends in the pipeline's words.
var kinds = map[procexec.End]pipeline.Kind{
	procexec.Finished: pipeline.Completed,
	procexec.Failed:   pipeline.Exception,
	procexec.TimedOut: pipeline.TimedOut,
	procexec.Exited:   pipeline.Exited,
	procexec.Ended:    pipeline.Interrupted,
	procexec.Dropped:  pipeline.LeaseLost,
}
