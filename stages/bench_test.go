package stages_test

import (
	"context"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// feed returns a channel that delivers b.N items.
func feed[In any](b *testing.B, lease pipeline.Lease, item func(*pipeline.Delivery) In) <-chan In {
	b.Helper()
	in := make(chan In, 256)
	go func() {
		defer close(in)
		for range b.N {
			in <- item(pipeline.NewDelivery(pipeline.Task{ID: "task-00000001", Data: []byte("{}")}, lease, 1))
		}
	}()
	return in
}

// benchStage measures a stage with b.N items.
func benchStage[In, Out pipeline.Item](b *testing.B, stage pipeline.Stage[In, Out], in <-chan In) {
	b.Helper()
	b.ReportAllocs()
	out := make(chan Out, 256)
	done := make(chan error, 1)
	b.ResetTimer()
	go func() {
		done <- stage(b.Context(), in, pipeline.NewOutput(out))
		close(out)
	}()
	n := 0
	for range out {
		n++
	}
	if err := <-done; err != nil || n != b.N {
		b.Fatalf("%d of %d items, error %v", n, b.N, err)
	}
}

func same(d *pipeline.Delivery) *pipeline.Delivery { return d }

func finished(d *pipeline.Delivery) pipeline.Result {
	return pipeline.Result{Delivery: d, Outcome: pipeline.Outcome{Kind: pipeline.Completed, Result: []byte("true"), Elapsed: time.Millisecond}}
}

func BenchmarkSkipLimit(b *testing.B) { benchStage(b, stages.SkipLimit(0, -1), feed(b, nil, same)) }

func BenchmarkClassify(b *testing.B) {
	b.ReportAllocs()
	classify := stages.Classify(stages.RetryOptions{OnExit: true})
	result := finished(pipeline.NewDelivery(pipeline.Task{ID: "task-00000001", Data: []byte("{}")}, nil, 1))
	for b.Loop() {
		if d := classify(result); d.Verdict != pipeline.Ack {
			b.Fatal(d.Verdict)
		}
	}
}

func BenchmarkExtend(b *testing.B) {
	e := stages.NewExtender(stages.ExtendOptions{LeaseDuration: time.Minute}, func(error) {})
	defer e.Close()
	in := feed(b, pipelinetest.FuncLease{Expiry: time.Now().Add(time.Minute)}, same)
	stage := e.Stage()
	benchStage(b, func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[*pipeline.Delivery]) error {
		between := make(chan *pipeline.Delivery)
		done := make(chan error, 1)
		go func() { done <- stage(ctx, in, pipeline.NewOutput(between)); close(between) }()
		for d := range between {
			if err := d.Ack(ctx); err != nil { // ends the extension of the lease
				return err
			}
			if err := out.Send(ctx, d); err != nil {
				return err
			}
		}
		return <-done
	}, in)
}

// nullSink is a sink that discards events.
type nullSink struct{}

func (nullSink) Write(context.Context, []pipeline.Event) error { return nil }
func (nullSink) Close(context.Context) error                   { return nil }

func BenchmarkSettle(b *testing.B) {
	for _, bench := range []struct {
		name     string
		lease    pipeline.Lease
		parallel int
	}{{"file", nil, 1}, {"queue", pipelinetest.FuncLease{Expiry: time.Now().Add(time.Hour)}, 64}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			var counted stages.Stats
			classify := stages.Classify(stages.RetryOptions{})
			in := feed(b, bench.lease, func(d *pipeline.Delivery) pipeline.Decision { return classify(finished(d)) })
			b.ResetTimer()
			settle := stages.Settle(nullSink{}, stages.SettleOptions{Stats: &counted, MaxConcurrentWrites: bench.parallel})
			if err := settle(b.Context(), pipeline.NewBatches(in)); err != nil {
				b.Fatal(err)
			}
			if n := counted.Counts().Completed; n != int64(b.N) {
				b.Fatalf("%d of %d tasks", n, b.N)
			}
		})
	}
}

// BenchmarkExecute measures the overhead of a complete pipeline. Its tasks are functions that do
// nothing.
func BenchmarkExecute(b *testing.B) {
	b.ReportAllocs()
	run := pipeline.New(b.Context(), pipeline.Options{Slots: 2, Prefetch: 128})
	tasks := pipeline.From(run, "source", &pipelinetest.ReadySource{N: b.N})
	runner := stages.RunnerFunc(func(context.Context, pipeline.Task) (bool, []byte, error) { return false, []byte("true"), nil })
	results := pipeline.Via(tasks, "execute", stages.Execute(run, runner))
	decisions := pipeline.Map(results, "classify", stages.Classify(stages.RetryOptions{}))
	pipeline.ToBatches(decisions, "settle", stages.Settle(nullSink{}, stages.SettleOptions{}))
	if err := run.Wait(); err != nil {
		b.Fatal(err)
	}
}
