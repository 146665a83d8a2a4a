package pipelinetest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSource_Contract(t *testing.T) {
	sourcetest.Run(t, sourcetest.Harness{
		NewOwn: func(_ testing.TB, n int) (pipeline.Source, []pipeline.Task) {
			tasks := make([]pipeline.Task, n)
			for i := range tasks {
				tasks[i] = pipeline.Task{ID: pipelinetest.TaskID(i), Data: []byte("{}")}
			}
			return &pipelinetest.Source{Rec: new(pipelinetest.Recorder), N: n, Local: true}, tasks
		},
		Features: sourcetest.Features{Finite: true, Ordered: true},
	})
}

func TestRecorder_Once(t *testing.T) {
	t.Parallel()
	rec := new(pipelinetest.Recorder)
	ds := pipelinetest.Deliveries(rec, 2)
	if err := ds[0].Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := rec.Once(1); err != nil {
		t.Error(err)
	}
	if rec.Once(2) == nil {
		t.Error("Once accepted a task that was not settled")
	}
	if err := ds[1].Release(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if err := rec.Once(2); err != nil {
		t.Error(err)
	}
	if err := pipelinetest.NewDelivery(pipelinetest.Lease{Rec: rec, ID: "1"}).Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rec.Once(2) == nil {
		t.Error("Once accepted a task that was settled twice")
	}
}

func TestFuncLease(t *testing.T) {
	t.Parallel()
	ctx, broken, d := t.Context(), errors.New("broken"), time.Minute
	refuses := pipelinetest.FuncLease{
		OnAck:     func(context.Context) error { return broken },
		OnRelease: func(context.Context, time.Duration) error { return broken },
		OnExtend:  func(context.Context, time.Duration) error { return broken },
	}
	for _, tc := range []struct {
		lease pipelinetest.FuncLease
		want  error
	}{{refuses, broken}, {pipelinetest.FuncLease{}, nil}} {
		_, err := tc.lease.Extend(ctx, d)
		for _, err := range []error{tc.lease.Ack(ctx), tc.lease.Release(ctx, d), err} {
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		}
	}
	began := time.Now()
	if until, _ := (pipelinetest.FuncLease{}).Extend(ctx, d); until.Before(began.Add(d)) {
		t.Errorf("Extend returned %v, want at least %v", until, began.Add(d))
	}
}

// Failures returns the failures of a function that continues after a failure, and of a function that ends
// with Fatal.
func TestFailures(t *testing.T) {
	t.Parallel()
	got := pipelinetest.Failures(t, func(tb testing.TB) {
		tb.Errorf("first %d", 1)
		tb.Fatal("second")
		tb.Error("unreachable")
	})
	if len(got) != 2 || got[0] != "first 1" || got[1] != "second" {
		t.Errorf("failures %q", got)
	}
}

// The recorder shows that each task was acknowledged.
func Example() {
	rec := new(pipelinetest.Recorder)
	run := pipeline.New(context.Background(), pipeline.Options{Slots: 1})
	tasks := pipeline.From(run, "source", &pipelinetest.Source{Rec: rec, N: 2})
	pipeline.To(tasks, "ack", func(ctx context.Context, in <-chan *pipeline.Delivery) error {
		for d := range in {
			if err := d.Ack(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	fmt.Println(run.Wait(), rec.Lines(), rec.Closed())
	// Output: <nil> [ack 0 ack 1] 1
}
