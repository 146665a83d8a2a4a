package stages

import (
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/pipeline"
)

// Command returns a Runner that starts a new process for each task.
func Command(c *procexec.Command) Runner { return command{c} }

type command struct{ c *procexec.Command }

func (c command) Run(phases pipeline.Phases, slot int, d *pipeline.Delivery) (pipeline.Outcome, error) {
	report, err := c.c.Run(
		procexec.Task{ID: d.Task.ID, Data: d.Task.Data, Attempt: d.Attempt, Slot: slot},
		procexec.StopSignals{Terminate: phases.Terminate.Done(), Kill: phases.Kill.Done(), LeaseLost: d.Lost(), NoNewTasks: phases.Fetch.Done()},
	)
	if err != nil {
		return pipeline.Outcome{}, err
	}
	return outcomeOf(report), nil
}

// outcomeOf converts the result type of package procexec to an Outcome.
func outcomeOf(report procexec.TaskResult) pipeline.Outcome {
	o := pipeline.Outcome{
		Kind:           report.Kind,
		Elapsed:        report.Elapsed,
		RetryRequested: report.RetryRequested,
		Result:         report.Result,
		RawResult:      report.RawResult,
		Exception:      report.Exception,
		Permanent:      report.Permanent,
		ExitCode:       report.ExitCode,
		StderrLine:     report.StderrLine,
	}
	if report.PeakMemory > 0 { // the usage is known, because the task did not share its process
		o.Usage = &pipeline.Usage{CPU: report.CPU, PeakMemory: report.PeakMemory}
	}
	return o
}
