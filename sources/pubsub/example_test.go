package pubsub_test

import (
	"context"
	"log"
	"time"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/pubsub"
	source "github.com/ctworker/ctworker/sources/pubsub"
	"github.com/ctworker/ctworker/stages"
)

// This worker runs the tasks of a Pub/Sub queue, and ends when the queue has been empty for a
// minute.
func Example() {
	ctx := context.Background()
	tasks, err := source.Open(ctx, source.Options{Queue: "jobs", Project: "my-project"})
	if err != nil {
		log.Fatal(err)
	}
	events, err := pubsub.Open(ctx, pubsub.Options{Queue: "jobs-events", Project: "my-project"})
	if err != nil {
		log.Fatal(err)
	}
	run := pipeline.New(ctx, pipeline.Options{Slots: 40, IdleTimeout: time.Minute})
	received := pipeline.From(run, "source", tasks)
	kept := pipeline.Via(received, "extend", stages.Extend(run, stages.ExtendOptions{}))
	results := pipeline.Via(kept, "execute", stages.Execute(run, stages.RunnerFunc(
		func(_ context.Context, task pipeline.Task) (retry bool, result []byte, err error) {
			return false, task.Data, nil
		})))
	decisions := pipeline.Map(results, "classify", stages.Classify(stages.RetryOptions{}))
	pipeline.ToBatches(decisions, "settle", stages.Settle(events, stages.SettleOptions{MaxConcurrentWrites: 8}))
	if err := run.Wait(); err != nil {
		log.Print(err)
	}
	if err := events.Close(ctx); err != nil {
		log.Print(err)
	}
}
