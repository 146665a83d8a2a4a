package sqs_test

import (
	"context"
	"log"
	"time"

	"github.com/ctworker/ctworker/pipeline"
	sink "github.com/ctworker/ctworker/sinks/sqs"
	"github.com/ctworker/ctworker/sources/sqs"
	"github.com/ctworker/ctworker/stages"
)

// This worker runs the tasks of one queue, and sends the events to another queue.
func Example() {
	ctx := context.Background()
	events, err := sink.Open(ctx, sink.Options{Queue: "jobs-events"})
	if err != nil {
		log.Fatal(err)
	}
	tasks, err := sqs.Open(ctx, sqs.Options{
		Queue: "jobs",
		OnMalformed: func(ctx context.Context, body string, reason error) error {
			return events.Write(ctx, []pipeline.Event{pipeline.NewMalformedEvent(body, reason, "here", time.Now())})
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	run := pipeline.New(ctx, pipeline.Options{Slots: 8, IdleTimeout: time.Minute})
	work := stages.RunnerFunc(func(_ context.Context, task pipeline.Task) (bool, []byte, error) {
		return false, task.Data, nil
	})
	received := pipeline.From(run, "source", tasks)
	kept := pipeline.Via(received, "extend", stages.Extend(run, stages.ExtendOptions{}))
	results := pipeline.Via(kept, "execute", stages.Execute(run, work))
	decisions := pipeline.Map(results, "classify", stages.Classify(stages.RetryOptions{}))
	pipeline.ToBatches(decisions, "settle", stages.Settle(events, stages.SettleOptions{MaxConcurrentWrites: 32}))
	if err := run.Wait(); err != nil {
		log.Print(err)
	}
	if err := events.Close(ctx); err != nil {
		log.Print(err)
	}
}
