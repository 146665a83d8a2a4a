package stages_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

func TestSkipLimit(t *testing.T) {
	t.Parallel()
	const all = -1
	for _, tc := range []struct {
		skip, limit int64
		n           int
		want        string // IDs of the tasks that the stage passes on
	}{
		{0, all, 5, "0 1 2 3 4"},
		{0, all, 0, ""},
		{2, all, 5, "2 3 4"},
		{5, all, 5, ""},
		{9, all, 5, ""},
		{-3, all, 5, "0 1 2 3 4"},
		{0, 0, 5, ""},
		{2, 0, 5, ""},
		{0, 3, 5, "0 1 2"},
		{0, 5, 5, "0 1 2 3 4"},
		{0, 9, 5, "0 1 2 3 4"},
		{2, 2, 5, "2 3"},
		{2, 9, 5, "2 3 4"},
		{0, 1, -1, "0"},
		{1000, 2, -1, "1000 1001"},
	} {
		t.Run(fmt.Sprintf("skip %d limit %d of %d", tc.skip, tc.limit, tc.n), func(t *testing.T) {
			t.Parallel()
			rec := &recorder{}
			r := pipeline.New(t.Context(), pipeline.Options{Slots: 3, Prefetch: 2})
			var passed []string
			take := func(ctx context.Context, in <-chan *pipeline.Delivery) error {
				for d := range in {
					passed = append(passed, d.Task.ID)
					if err := d.Ack(context.WithoutCancel(ctx)); err != nil {
						return err
					}
				}
				return nil
			}
			received := make(map[string]*pipeline.Delivery)
			src := &source{Rec: rec, N: tc.n, Each: func(_ int, d *pipeline.Delivery) { received[d.Task.ID] = d }}
			pipeline.To(pipeline.Via(pipeline.From(r, "source", src), "skip/limit", stages.SkipLimit(tc.skip, tc.limit)), "take", taken(r, take))
			if err := r.Wait(); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(passed, " "); got != tc.want {
				t.Errorf("passed %q, want %q", got, tc.want)
			}
			for id, d := range received {
				if !d.Plumbing().Settled() {
					t.Errorf("task %s is not settled", id)
				}
			}
			// A skipped task is neither acknowledged nor released. With limit 0, the stage receives no
			// task, and all tasks are released.
			for i := range tc.skip {
				id := fmt.Sprint(i)
				if n := rec.Count("ack " + id); n > 0 {
					t.Errorf("skipped task %s was acknowledged", id)
				}
				if n := rec.Count("release " + id + " 0s"); n > 0 && tc.limit != 0 {
					t.Errorf("skipped task %s was released", id)
				}
			}
		})
	}
}

// taken returns a consumer that calls f with the Settle phase as context. Because of this context,
// f receives all items that were passed on, even if the run stops.
func taken(r *pipeline.Run, f func(context.Context, <-chan *pipeline.Delivery) error) pipeline.Consumer[*pipeline.Delivery] {
	return func(_ context.Context, in <-chan *pipeline.Delivery) error { return f(r.Phases().Settle, in) }
}
