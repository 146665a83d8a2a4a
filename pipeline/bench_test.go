package pipeline_test

import (
	"context"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
)

// BenchmarkRun measures the overhead of a run: fetching deliveries, sending them over one channel,
// and settling them.
func BenchmarkRun(b *testing.B) {
	b.ReportAllocs()
	run := pipeline.New(b.Context(), pipeline.Options{Slots: 2, Prefetch: 128})
	tasks := pipeline.From(run, "source", &pipelinetest.ReadySource{N: b.N})
	pipeline.To(tasks, "settle", func(ctx context.Context, in <-chan *pipeline.Delivery) error {
		for d := range in {
			if err := d.Ack(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err := run.Wait(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkDelivery(b *testing.B) {
	task := pipeline.Task{ID: "task", Data: []byte("{}")}
	b.ReportAllocs()
	for b.Loop() {
		_ = pipeline.NewDelivery(task, nil, 1).Ack(b.Context())
	}
}

func BenchmarkEvent(b *testing.B) {
	for name, outcome := range map[string]pipeline.Outcome{
		"word":      {Kind: pipeline.Completed, Result: []byte("true"), Elapsed: 1234 * time.Microsecond},
		"object":    {Kind: pipeline.Completed, Result: []byte(`{"width":640,"height":480,"mean":0.125,"file":"s3://bucket/out/1.png"}`), Elapsed: time.Second},
		"exception": {Kind: pipeline.Exception, Exception: "Traceback (most recent call last):\n  File \"x.py\", line 1, in f\nValueError: no", Elapsed: time.Second},
		"exit":      {Kind: pipeline.Exited, ExitCode: -9, Elapsed: time.Second, Usage: &pipeline.Usage{CPU: time.Second, PeakMemory: 1 << 20}},
	} {
		b.Run(name, func(b *testing.B) {
			delivery := pipeline.NewDelivery(pipeline.Task{ID: "task-00000001"}, nil, 1)
			d := pipeline.Decision{Delivery: delivery, Outcome: outcome, Verdict: pipeline.Ack}
			var out []byte
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				e, _ := pipeline.NewTaskEvent(d, "host", now)
				out = e.AppendJSON(out[:0])
			}
			b.SetBytes(int64(len(out)))
		})
	}
}
