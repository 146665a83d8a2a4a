package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/function"
	"github.com/ctworker/ctworker/stages"
)

// dropDrafts is a custom stage. A stage is a function that settles each delivery that it does not
// pass on.
func dropDrafts(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[*pipeline.Delivery]) error {
	for d := range in {
		if strings.HasPrefix(d.Task.ID, "draft-") {
			if err := d.Ack(ctx); err != nil {
				return err
			}
			continue
		}
		if err := out.Send(ctx, d); err != nil {
			return nil // the run is stopping; Send has released d
		}
	}
	return nil
}

// printer is a sink that prints events.
type printer struct{}

func (printer) Write(_ context.Context, events []pipeline.Event) error {
	for _, e := range events {
		fmt.Printf("%s %s: %s%s\n", e.TaskID, e.Type, e.Outcome.Result, e.Outcome.Exception)
	}
	return nil
}

func (printer) Close(context.Context) error { return nil }

// This pipeline has a custom stage between the source and the execution.
func Example() {
	source := function.Of(
		pipeline.Task{ID: "letter-1", Data: []byte(`"hello"`)},
		pipeline.Task{ID: "draft-2", Data: []byte(`"hm"`)},
		pipeline.Task{ID: "letter-3", Data: []byte(`""`)},
	)
	shout := func(_ context.Context, task pipeline.Task) (retry bool, result []byte, err error) {
		if string(task.Data) == `""` {
			return false, nil, errors.New("empty letter")
		}
		return false, []byte(strings.ToUpper(string(task.Data))), nil
	}

	run := pipeline.New(context.Background(), pipeline.Options{Slots: 1})
	tasks := pipeline.From(run, "source", source)
	tasks = pipeline.Via(tasks, "drop drafts", dropDrafts)
	results := pipeline.Via(tasks, "execute", stages.Execute(run, stages.RunnerFunc(shout)))
	decisions := pipeline.Map(results, "classify", stages.Classify(stages.RetryOptions{}))
	pipeline.ToBatches(decisions, "settle", stages.Settle(printer{}, stages.SettleOptions{}))
	if err := run.Wait(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// letter-1 task_completed: "HELLO"
	// letter-3 task_exception: empty letter
}
