package stages_test

import (
	"context"
	"fmt"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// printer is a sink that prints events.
type printer struct{}

func (printer) Write(_ context.Context, events []pipeline.Event) error {
	for _, e := range events {
		fmt.Println(e.TaskID, e.Type, string(e.Outcome.Result))
	}
	return nil
}

func (printer) Close(context.Context) error { return nil }

// The pipeline runs a function for the second and the third task of a source, and prints the
// events.
func Example() {
	run := pipeline.New(context.Background(), pipeline.Options{Slots: 1})
	echo := stages.RunnerFunc(func(_ context.Context, task pipeline.Task) (retry bool, result []byte, err error) {
		return false, fmt.Appendf(nil, `"task %s has data %s"`, task.ID, task.Data), nil
	})

	tasks := pipeline.From(run, "source", &source{Rec: &recorder{}, N: 10})
	tasks = pipeline.Via(tasks, "skip/limit", stages.SkipLimit(1, 2))
	results := pipeline.Via(tasks, "execute", stages.Execute(run, echo))
	decisions := pipeline.Map(results, "classify", stages.Classify(stages.RetryOptions{}))
	pipeline.ToBatches(decisions, "settle", stages.Settle(printer{}, stages.SettleOptions{}))
	if err := run.Wait(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 1 task_completed "task 1 has data {}"
	// 2 task_completed "task 2 has data {}"
}
