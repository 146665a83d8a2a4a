package eventlog_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

func BenchmarkWrite(b *testing.B) {
	d := pipeline.NewDelivery(pipeline.Task{ID: "task-00000001"}, nil, 1)
	e, _ := pipeline.NewTaskEvent(pipeline.Decision{Delivery: d, Outcome: pipeline.Outcome{
		Kind: pipeline.Completed, Result: []byte("true"), Elapsed: time.Millisecond,
	}}, "host", time.Now())
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			l := open(b, filepath.Join(b.TempDir(), "events.log"))
			batch := make([]pipeline.Event, n)
			for i := range batch {
				batch[i] = e
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Write(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
			closeLog(b, l)
		})
	}
}
