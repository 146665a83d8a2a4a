package stages_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// For random tasks, random options and random ends of the run, each delivery is settled once, and
// in the way that its event reports. Each task that is counted as reported has an event.
func TestPipeline_SettlesEveryDeliveryOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 60).Draw(t, "tasks")
		local := rapid.Bool().Draw(t, "local")
		skip := rapid.Int64Range(0, 10).Draw(t, "skip")
		limit := rapid.Int64Range(-1, 60).Draw(t, "limit")
		// What happens when each task runs: an outcome, a lost lease, a panic, or a call of Fail, Stop
		// or Kill.
		actions := rapid.SliceOfN(rapid.SampledFrom([]string{
			"completed", "completed", "retry", "exception", "timed out", "exited", "panic", "lose", "lose late",
			"completed", "completed", "retry", "exception", "timed out", "exited", "panic", "lose", "lose late",
			"fail", "stop", "kill",
		}), n, n).Draw(t, "actions")
		sinkFailsAt := rapid.IntRange(0, 200).Draw(t, "sink fails at")
		opts := stages.RetryOptions{
			OnExit: rapid.Bool().Draw(t, "on exit"), OnException: rapid.Bool().Draw(t, "on exception"), OnTimeout: rapid.Bool().Draw(t, "on timeout"),
		}

		rec := &recorder{}
		received := make(map[string]*pipeline.Delivery)
		src := &source{Rec: rec, N: n, Local: local, Each: func(_ int, d *pipeline.Delivery) { received[d.Task.ID] = d }}
		r := pipeline.New(context.Background(), pipeline.Options{Slots: rapid.IntRange(1, 5).Draw(t, "slots"), Prefetch: rapid.IntRange(0, 5).Draw(t, "prefetch")})
		run := runner(func(phases pipeline.Phases, _ int, d *pipeline.Delivery) (pipeline.Outcome, error) {
			var i int
			if _, err := fmt.Sscan(d.Task.ID, &i); err != nil {
				return pipeline.Outcome{}, err
			}
			switch actions[i] {
			case "retry":
				return pipeline.Outcome{Kind: pipeline.Completed, RetryRequested: true}, nil
			case "exception":
				return pipeline.Outcome{Kind: pipeline.Exception}, nil
			case "timed out":
				return pipeline.Outcome{Kind: pipeline.TimedOut}, nil
			case "exited":
				return pipeline.Outcome{Kind: pipeline.Exited}, nil
			case "panic":
				panic("task")
			case "lose":
				d.Plumbing().MarkLeaseLost(errBoom)
				return pipeline.Outcome{Kind: pipeline.LeaseLost}, nil
			case "lose late":
				d.Plumbing().MarkLeaseLost(errBoom)
			case "fail":
				return pipeline.Outcome{}, errBoom
			case "stop":
				r.Stop(errors.New("stop"))
			case "kill":
				r.Kill(errors.New("kill"))
				<-phases.Kill.Done()
				return pipeline.Outcome{Kind: pipeline.Interrupted}, nil
			}
			return pipeline.Outcome{Kind: pipeline.Completed}, nil
		})
		written := 0
		failed := false
		s := sink{Rec: rec, OnWrite: func(events []pipeline.Event) error {
			if written += len(events); written > sinkFailsAt {
				failed = true
				return errBoom
			}
			return nil
		}}
		var counted stages.Stats

		tasks := pipeline.Via(pipeline.From(r, "source", src), "skip/limit", stages.SkipLimit(skip, limit))
		results := pipeline.Via(tasks, "execute", stages.Execute(r, run))
		decisions := pipeline.Map(results, "classify", stages.Classify(opts))
		pipeline.ToBatches(decisions, "settle", stages.Settle(s, stages.SettleOptions{Stats: &counted}))
		err := r.Wait()

		if err != nil && !errors.Is(err, errBoom) {
			t.Fatalf("error %v", err)
		}
		if failed && err == nil {
			t.Fatal("the sink failed, but Wait returned no error")
		}
		if reported := counted.Counts().Reported(); int64(len(rec.Events())) != reported {
			t.Errorf("%d events, %d tasks counted as reported", len(rec.Events()), reported)
		}
		events := make(map[string]pipeline.Event)
		for _, e := range rec.Events() {
			if _, twice := events[e.TaskID]; twice {
				t.Errorf("two events for task %s", e.TaskID)
			}
			events[e.TaskID] = e
		}
		settled := make(map[string]string)
		for i, line := range rec.Lines() {
			words := strings.Fields(line)
			if words[0] == "event" {
				continue
			}
			if before, twice := settled[words[1]]; twice {
				t.Errorf("task %s: %s, then %s", words[1], before, words[0])
			}
			settled[words[1]] = words[0]
			if e, ok := events[words[1]]; ok && indexOf(rec.Lines(), "event "+words[1]+" "+string(e.Type)) > i {
				t.Errorf("task %s was settled before it was reported", words[1])
			}
		}
		for id, d := range received {
			if !d.Plumbing().Settled() {
				t.Errorf("task %s is not settled", id)
			}
			var i int64
			_, _ = fmt.Sscan(id, &i)
			e, reported := events[id]
			want := "" // no request to the source, because the task was lost or skipped
			switch lost := strings.HasPrefix(actions[i], "lose") && isLost(d); {
			case reported && lost, lost:
			case reported && e.Retry, !reported && settled[id] != "":
				want = "release"
			case reported:
				want = "ack"
			case i >= skip:
				want = "release"
			}
			if settled[id] != want {
				t.Errorf("task %s (%s, reported %v): settled by %q, want %q", id, actions[i], reported, settled[id], want)
			}
		}
		if limit >= 0 && counted.Counts().Reported() > limit {
			t.Errorf("%d tasks reported, limit %d", counted.Counts().Reported(), limit)
		}
		if rec.Closed() != 1 {
			t.Errorf("the source was closed %d times", rec.Closed())
		}
	})
}

func isLost(d *pipeline.Delivery) bool {
	select {
	case <-d.Lost():
		return true
	default:
		return false
	}
}

func indexOf(lines []string, line string) int {
	for i, l := range lines {
		if l == line {
			return i
		}
	}
	return -1
}
