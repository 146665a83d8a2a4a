package stages_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// feed returns a channel that items for b.N deliveries come out of.
func feed[In any](b *testing.B, lease pipeline.Lease, item func(*pipeline.Delivery) In) <-chan In {
	b.Helper()
	in := make(chan In, 256)
	go func() {
		defer close(in)
		var batch pipeline.DeliveryArena
		for range b.N {
			in <- item(batch.New(pipeline.Task{ID: "task-00000001", Data: []byte("{}")}, lease, 1))
		}
	}()
	return in
}

// benchStage has b.N items pass a stage.
func benchStage[In, Out pipeline.Item](b *testing.B, stage pipeline.Stage[In, Out], in <-chan In) {
	b.Helper()
	b.ReportAllocs()
	out := make(chan Out, 256)
	ended := make(chan error, 1)
	b.ResetTimer()
	go func() {
		ended <- stage(b.Context(), in, out)
		close(out)
	}()
	n := 0
	for range out {
		n++
	}
	if err := <-ended; err != nil || n != b.N {
		b.Fatalf("%d of %d items, error %v", n, b.N, err)
	}
}

func same(d *pipeline.Delivery) *pipeline.Delivery { return d }

func finished(d *pipeline.Delivery) pipeline.Result {
	return pipeline.Result{Delivery: d, Outcome: pipeline.Outcome{Kind: pipeline.Completed, Result: []byte("true"), Elapsed: time.Millisecond}}
}

func BenchmarkWindow(b *testing.B) { benchStage(b, stages.SkipLimit(0, -1), feed(b, nil, same)) }

func BenchmarkClassify(b *testing.B) {
	benchStage(b, stages.Classify(stages.RetryOptions{OnExit: true}), feed(b, nil, finished))
}

// held is a lease that a queue has given.
type held struct{ until time.Time }

func (h held) Ack(context.Context) error                    { return nil }
func (h held) Release(context.Context, time.Duration) error { return nil }
func (h held) ExpiresAt() time.Time                         { return h.until }
func (h held) Extend(_ context.Context, d time.Duration) (time.Time, error) {
	return time.Now().Add(d), nil
}

func BenchmarkExtend(b *testing.B) {
	e := stages.NewExtender(stages.ExtendOptions{LeaseDuration: time.Minute})
	defer e.Close()
	in := feed(b, held{time.Now().Add(time.Minute)}, same)
	stage := e.Stage()
	benchStage(b, func(ctx context.Context, in <-chan *pipeline.Delivery, out chan<- *pipeline.Delivery) error {
		between := make(chan *pipeline.Delivery)
		ended := make(chan error, 1)
		go func() { ended <- stage(ctx, in, between); close(between) }()
		for d := range between {
			if err := d.Ack(ctx); err != nil { // or the leases of all would be kept
				return err
			}
			out <- d
		}
		return <-ended
	}, in)
}

// null is a sink that keeps nothing.
type null struct{}

func (null) Write(context.Context, []pipeline.Event) error { return nil }
func (null) Close(context.Context) error                   { return nil }

func BenchmarkSettle(b *testing.B) {
	for _, bench := range []struct {
		name     string
		lease    pipeline.Lease
		parallel int
	}{{"file", nil, 1}, {"queue", held{time.Now().Add(time.Hour)}, 64}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			var tally stages.Stats
			in := feed(b, bench.lease, finished)
			b.ResetTimer()
			if err := stages.ClassifyAndSettle(null{}, stages.RetryOptions{}, stages.SettleOptions{Tally: &tally, MaxConcurrentWrites: bench.parallel})(b.Context(), in); err != nil {
				b.Fatal(err)
			}
			if n := tally.Counts().Completed; n != int64(b.N) {
				b.Fatalf("%d of %d tasks", n, b.N)
			}
		})
	}
}

// there is a source of n tasks that are there at once.
type there struct {
	n     int
	batch pipeline.DeliveryArena
}

func (s *there) Receive(_ context.Context, limit int) ([]*pipeline.Delivery, error) {
	n := min(limit, s.n)
	if n == 0 {
		return nil, io.EOF
	}
	ds := make([]*pipeline.Delivery, n)
	for i := range ds {
		ds[i] = s.batch.New(pipeline.Task{ID: "task", Data: []byte("{}")}, nil, 1)
	}
	s.n -= n
	return ds, nil
}

func (s *there) Close(context.Context) error { return nil }

// BenchmarkExecute is a whole pipeline whose tasks are functions that do nothing.
func BenchmarkExecute(b *testing.B) {
	b.ReportAllocs()
	run := pipeline.New(b.Context(), pipeline.Options{Slots: 2, Prefetch: 128})
	tasks := pipeline.From(run, "source", &there{n: b.N})
	runner := stages.RunnerFunc(func(context.Context, pipeline.Task) (bool, []byte, error) { return false, []byte("true"), nil })
	results := pipeline.Via(tasks, "execute", stages.Execute(run, runner))
	pipeline.To(results, "settle", stages.ClassifyAndSettle(null{}, stages.RetryOptions{}, stages.SettleOptions{}))
	if err := run.Wait(); err != nil {
		b.Fatal(err)
	}
}
