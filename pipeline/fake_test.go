package pipeline_test

import (
	"context"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
)

type (
	recorder = pipelinetest.Recorder
	lease    = pipelinetest.Lease
	source   = pipelinetest.Source
)

func newRecorder() *recorder { return new(recorder) }

func taskID(i int) string { return pipelinetest.TaskID(i) }

// complete is an execution stage that completes every task immediately.
func complete(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[pipeline.Result]) error {
	for d := range in {
		r := pipeline.Result{Delivery: d, Outcome: pipeline.Outcome{Kind: pipeline.Completed}}
		if out.Send(ctx, r) != nil {
			return nil
		}
		d.ReleaseSlot()
	}
	return nil
}

// ackAll acknowledges every result.
func ackAll(ctx context.Context, in <-chan pipeline.Result) error {
	for r := range in {
		if err := r.Ack(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pass is a stage that passes all deliveries on.
func pass(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[*pipeline.Delivery]) error {
	for d := range in {
		if out.Send(ctx, d) != nil {
			return nil
		}
	}
	return nil
}
