package stages_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// decision returns a delivery with an outcome and a verdict.
func decision(l lease, kind pipeline.OutcomeKind, verdict pipeline.Verdict) pipeline.Decision {
	d := pipelinetest.NewDelivery(l)
	return pipeline.Decision{Delivery: d, Outcome: pipeline.Outcome{Kind: kind}, Verdict: verdict}
}

// settle runs Settle until it has settled the deliveries ds.
func settle(t *testing.T, s pipeline.Sink, opts stages.SettleOptions, ds ...pipeline.Decision) error {
	t.Helper()
	in := make(chan pipeline.Decision, len(ds))
	for _, d := range ds {
		in <- d
	}
	close(in)
	return stages.Settle(s, opts)(t.Context(), pipeline.NewBatches(in))
}

// The event of a task is written before the task is settled.
func TestSettle_EventBeforeSettlement(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind    pipeline.OutcomeKind
		verdict pipeline.Verdict
		want    []string
	}{
		{pipeline.Completed, pipeline.Ack, []string{"event 0 task_completed", "ack 0"}},
		{pipeline.Completed, pipeline.Retry, []string{"event 0 task_completed", "release 0 7s"}},
		{pipeline.Exception, pipeline.Ack, []string{"event 0 task_exception", "ack 0"}},
		{pipeline.Exception, pipeline.Retry, []string{"event 0 task_exception", "release 0 7s"}},
		{pipeline.TimedOut, pipeline.Ack, []string{"event 0 task_timed_out", "ack 0"}},
		{pipeline.TimedOut, pipeline.Retry, []string{"event 0 task_timed_out", "release 0 7s"}},
		{pipeline.Exited, pipeline.Ack, []string{"event 0 task_exited", "ack 0"}},
		{pipeline.Exited, pipeline.Retry, []string{"event 0 task_exited", "release 0 7s"}},
		{pipeline.Interrupted, pipeline.Release, []string{"release 0 0s"}},
		{pipeline.LeaseLost, pipeline.Release, []string{"release 0 0s"}},
	} {
		for _, local := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.kind, " ", tc.verdict, " local ", local), func(t *testing.T) {
				t.Parallel()
				rec := &recorder{}
				now := time.Unix(1000, 0)
				opts := stages.SettleOptions{Hostname: "here", RetryDelay: 7 * time.Second, Now: func() time.Time { return now }}
				if err := settle(t, sink{Rec: rec}, opts, decision(lease{Rec: rec, ID: "0", Local: local}, tc.kind, tc.verdict)); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.want, rec.Lines()); diff != "" {
					t.Error(diff)
				}
				for _, e := range rec.Events() {
					if e.Hostname != "here" || !e.Time.Equal(now) || e.Retry != (tc.verdict == pipeline.Retry) || e.Attempt != 1 {
						t.Errorf("%+v", e)
					}
				}
			})
		}
	}
}

// No event is written for a task whose lease was lost while the task ran or before the event was
// written.
func TestSettle_NoEventAfterLeaseLost(t *testing.T) {
	t.Parallel()
	rec := &recorder{}
	var log bytes.Buffer
	lost := decision(lease{Rec: rec, ID: "0"}, pipeline.LeaseLost, pipeline.Release)
	lost.Plumbing().MarkLeaseLost(errors.New("gone"))
	expired := decision(lease{Rec: rec, ID: "1"}, pipeline.Completed, pipeline.Ack)
	expired.Plumbing().MarkLeaseLost(errors.New("gone"))
	if err := settle(t, sink{Rec: rec}, stages.SettleOptions{Log: zerolog.New(zerolog.SyncWriter(&log))}, lost, expired); err != nil {
		t.Fatal(err)
	}
	if all := rec.Lines(); len(all) != 0 {
		t.Errorf("%q", all)
	}
	if n := strings.Count(log.String(), "discarded the result"); n != 1 || !strings.Contains(log.String(), `"task_id":"1"`) {
		t.Errorf("log %s", log.String())
	}
}

// If a task cannot be settled, the error is logged, and other tasks are not affected.
func TestSettle_LogsFailedSettlement(t *testing.T) {
	t.Parallel()
	for _, local := range []bool{false, true} {
		rec := &recorder{}
		var log bytes.Buffer
		err := settle(t, sink{Rec: rec}, stages.SettleOptions{Log: zerolog.New(zerolog.SyncWriter(&log))},
			decision(lease{Rec: rec, ID: "0", Local: local}, pipeline.Completed, pipeline.Ack),
			decision(lease{Rec: rec, ID: "1", Local: local, AckErr: errBoom}, pipeline.Completed, pipeline.Ack),
			decision(lease{Rec: rec, ID: "2", Local: local, AckErr: errBoom}, pipeline.Exited, pipeline.Retry),
			decision(lease{Rec: rec, ID: "3", Local: local}, pipeline.Completed, pipeline.Ack))
		if err != nil {
			t.Fatal(err)
		}
		if got := rec.Lines(); len(got) != 8 {
			t.Errorf("%q", got)
		}
		for _, id := range []string{"1", "2"} {
			if !strings.Contains(log.String(), `"task_id":"`+id+`"`) {
				t.Errorf("task %s is missing in the log %s", id, log.String())
			}
		}
		if strings.Count(log.String(), "\n") != 2 || strings.Count(log.String(), "boom") != 2 {
			t.Errorf("log %s", log.String())
		}
	}
}

// If events cannot be written, the run fails with the error of the sink. The tasks of these events
// are released. Tasks whose events were already written are not released.
func TestSettle_SinkFails(t *testing.T) {
	t.Parallel()
	for _, local := range []bool{false, true} {
		t.Run(fmt.Sprint("local ", local), func(t *testing.T) {
			t.Parallel()
			rec := &recorder{}
			reported := 0
			s := sink{Rec: rec, OnWrite: func(events []pipeline.Event) error {
				if reported += len(events); reported > 20 {
					return errBoom
				}
				return nil
			}}
			r := pipeline.New(t.Context(), pipeline.Options{Slots: 4, Prefetch: 4})
			complete := runner(func(pipeline.Phases, int, *pipeline.Delivery) (pipeline.Outcome, error) {
				return pipeline.Outcome{Kind: pipeline.Completed}, nil
			})
			results := pipeline.Via(pipeline.From(r, "source", &source{Rec: rec, N: -1, Local: local}), "execute", stages.Execute(r, complete))
			pipeline.ToBatches(pipeline.Map(results, "classify", stages.Classify(stages.RetryOptions{})), "settle", stages.Settle(s, stages.SettleOptions{}))
			err := r.Wait()
			if !errors.Is(err, errBoom) || !strings.Contains(err.Error(), "settle: ") || !strings.Contains(err.Error(), " events: ") {
				t.Errorf("error %v", err)
			}
			for i := range r.Status().Received {
				events, acks, releases := rec.Count(fmt.Sprint("event ", i, " task_completed")), rec.Count(fmt.Sprint("ack ", i)), rec.Count(fmt.Sprint("release ", i, " 0s"))
				if acks+releases != 1 || acks != events {
					t.Errorf("task %d: %d events, %d acks, %d releases", i, events, acks, releases)
				}
			}
		})
	}
}

// Events that arrive during a Write are written by the next Write, in order. A slow acknowledgment
// does not delay events.
func TestSettle_WritesEventsInBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		var sizes []int
		first, hang := make(chan struct{}), make(chan struct{})
		s := sink{Rec: rec, OnWrite: func(events []pipeline.Event) error {
			sizes = append(sizes, len(events))
			if len(sizes) == 1 {
				<-first
			}
			return nil
		}}
		in := make(chan pipeline.Decision, 1000)
		var counted stages.Stats
		done := make(chan error)
		go func() {
			done <- stages.Settle(s, stages.SettleOptions{Stats: &counted})(t.Context(), pipeline.NewBatches(in))
		}()
		in <- decision(lease{Rec: rec, ID: "0", Hang: hang}, pipeline.Completed, pipeline.Ack)
		synctest.Wait()
		if reported := counted.Counts().Reported(); reported != 0 {
			t.Errorf("%d tasks were counted before their events were durable", reported)
		}
		for i := 1; i <= 300; i++ {
			in <- decision(lease{Rec: rec, ID: fmt.Sprint(i), Hang: hang}, pipeline.Completed, pipeline.Ack)
		}
		if got := rec.Lines(); len(got) != 0 {
			t.Errorf("%q before the first event was durable", got)
		}
		close(first)
		synctest.Wait()
		if !slices.Equal(sizes, []int{1, 256, 44}) {
			t.Errorf("batches of %v", sizes)
		}
		if got := rec.Lines(); len(got) != 301 || slices.ContainsFunc(got, func(l string) bool { return !strings.HasPrefix(l, "event") }) {
			t.Errorf("%d lines", len(got))
		}
		close(hang)
		close(in)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for i := range 301 {
			if lines := rec.Lines(); lines[i] != fmt.Sprint("event ", i, " task_completed") || rec.Count(fmt.Sprint("ack ", i)) != 1 {
				t.Errorf("task %d: %s, %d acks", i, lines[i], rec.Count(fmt.Sprint("ack ", i)))
			}
		}
		if reported := counted.Counts().Reported(); reported != 301 {
			t.Errorf("%d tasks counted, want 301", reported)
		}
	})
}

// A task from a local source, whose lease never expires, is settled before the next batch is
// written.
func TestSettle_LocalTasksInOrder(t *testing.T) {
	t.Parallel()
	rec := &recorder{}
	in := make(chan pipeline.Decision)
	done := make(chan error)
	go func() {
		done <- stages.Settle(sink{Rec: rec}, stages.SettleOptions{})(t.Context(), pipeline.NewBatches(in))
	}()
	var want []string
	for i := range 20 {
		id := fmt.Sprint(i)
		in <- decision(lease{Rec: rec, ID: id, Local: true}, pipeline.Completed, pipeline.Ack)
		want = append(want, "event "+id+" task_completed", "ack "+id)
	}
	close(in)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// Several tasks may have been in one batch, but the event of each task precedes its acknowledgment.
	got := rec.Lines()
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range 20 {
		event, ack := slices.Index(got, want[2*i]), slices.Index(got, want[2*i+1])
		if event < 0 || ack < event || ack-event > 2 {
			t.Errorf("task %d: event at %d, ack at %d", i, event, ack)
		}
	}
}

// If the sink does not respond before the end of the Settle phase, no task is acknowledged.
func TestSettle_SinkHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 2, SettleTimeout: 5 * time.Second})
		hang := sink{Rec: rec, OnWrite: func([]pipeline.Event) error {
			<-r.Phases().Settle.Done()
			return r.Phases().Settle.Err()
		}}
		complete := runner(func(pipeline.Phases, int, *pipeline.Delivery) (pipeline.Outcome, error) {
			return pipeline.Outcome{Kind: pipeline.Completed}, nil
		})
		results := pipeline.Via(pipeline.From(r, "source", &source{Rec: rec, N: 2}), "execute", stages.Execute(r, complete))
		pipeline.ToBatches(pipeline.Map(results, "classify", stages.Classify(stages.RetryOptions{})), "settle", stages.Settle(hang, stages.SettleOptions{}))
		err := r.Wait()
		if err == nil || !strings.Contains(err.Error(), `gave up waiting for the stages ["settle"]`) {
			t.Errorf("error %v", err)
		}
		if got := rec.Lines(); len(got) != 0 {
			t.Errorf("%q", got)
		}
	})
}

func TestStats_Counts(t *testing.T) {
	t.Parallel()
	rec := &recorder{}
	var counted stages.Stats
	var ds []pipeline.Decision
	add := func(n int, kind pipeline.OutcomeKind, v pipeline.Verdict, usage *pipeline.Usage) {
		for range n {
			d := decision(lease{Rec: rec, ID: fmt.Sprint(len(ds))}, kind, v)
			d.Outcome.Usage = usage
			ds = append(ds, d)
		}
	}
	add(1, pipeline.Completed, pipeline.Ack, nil)
	add(2, pipeline.Completed, pipeline.Retry, &pipeline.Usage{CPU: time.Second, PeakMemory: 5})
	add(3, pipeline.Exception, pipeline.Ack, &pipeline.Usage{CPU: time.Second, PeakMemory: 9})
	add(4, pipeline.TimedOut, pipeline.Retry, &pipeline.Usage{CPU: time.Minute, PeakMemory: 2})
	add(5, pipeline.Exited, pipeline.Ack, nil)
	add(6, pipeline.Interrupted, pipeline.Release, nil)
	add(7, pipeline.LeaseLost, pipeline.Release, nil)
	if err := settle(t, sink{Rec: rec}, stages.SettleOptions{Stats: &counted}, ds...); err != nil {
		t.Fatal(err)
	}
	want := stages.Counts{
		Completed: 3, Exception: 3, TimedOut: 4, Exited: 5, Interrupted: 6, LeaseLost: 7, Retried: 6,
		CPU: 4*time.Minute + 5*time.Second, PeakMemory: 9,
	}
	if diff := cmp.Diff(want, counted.Counts()); diff != "" {
		t.Error(diff)
	}
	if c := counted.Counts(); c.Reported() != 15 || c.NotCompleted() != 12 {
		t.Errorf("Reported() = %d, NotCompleted() = %d, want 15 and 12", c.Reported(), c.NotCompleted())
	}
	if reported := int64(len(rec.Events())); reported != counted.Counts().Reported() {
		t.Errorf("%d events", reported)
	}
}

// waitingSink is a sink whose Write first calls wait, to simulate an unreachable provider. It then
// writes the events that are not withheld.
type waitingSink struct {
	sink
	wait func()
}

func (s waitingSink) Write(ctx context.Context, events []pipeline.Event) error {
	s.wait()
	for _, e := range events {
		if e.Withheld == nil || !e.Withheld() {
			if err := s.sink.Write(ctx, []pipeline.Event{e}); err != nil {
				return err
			}
		}
	}
	return nil
}

// If a lease expires while the event of its task waits for a slow sink, the event is not written.
// The result is discarded, one log line reports this, and the task is counted as LeaseLost. The
// other events of the batch are written.
func TestSettle_DiscardsResultIfLeaseExpiresDuringWrite(t *testing.T) {
	t.Parallel()
	for _, parallel := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			rec := &recorder{}
			var log bytes.Buffer
			var counted stages.Stats
			completed := func(id string, duration time.Duration) pipeline.Decision {
				d := pipeline.NewDelivery(pipeline.Task{ID: id, Data: []byte(`{}`)}, lease{Rec: rec, ID: id, Expiry: time.Now().Add(duration)}, 2)
				return pipeline.Decision{Delivery: d, Outcome: pipeline.Outcome{Kind: pipeline.Completed}, Verdict: pipeline.Ack}
			}
			slow := waitingSink{sink{Rec: rec}, func() { <-time.After(time.Minute) }}
			opts := stages.SettleOptions{MaxConcurrentWrites: parallel, Stats: &counted, Log: zerolog.New(zerolog.SyncWriter(&log))}
			if err := settle(t, slow, opts, completed("short", 30*time.Second), completed("long", time.Hour)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"event long task_completed", "ack long"}, rec.Lines()); diff != "" {
				t.Error(diff)
			}
			if c := counted.Counts(); c.Completed != 1 || c.LeaseLost != 1 {
				t.Errorf("%+v", c)
			}
			if n := strings.Count(log.String(), `"level":"warn"`); n != 1 || !strings.Contains(log.String(), `"task_id":"short","attempt":2`) {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}

// If the sink panics, the run fails, and the tasks are released.
func TestSettle_SinkPanics(t *testing.T) {
	t.Parallel()
	for _, parallel := range []int{1, 4} {
		rec := &recorder{}
		panics := sink{Rec: rec, OnWrite: func([]pipeline.Event) error { panic("a nil pointer in the sink") }}
		err := settle(t, panics, stages.SettleOptions{MaxConcurrentWrites: parallel}, decision(lease{Rec: rec, ID: "0"}, pipeline.Completed, pipeline.Ack))
		if err == nil || !strings.Contains(err.Error(), "a nil pointer in the sink") {
			t.Errorf("error %v, want the panic of the sink", err)
		}
		if diff := cmp.Diff([]string{"release 0 0s"}, rec.Lines()); diff != "" {
			t.Error(diff)
		}
	}
}

// A Decision without a verdict or an outcome ends the run. A queue would otherwise deliver the task again and
// again.
func TestSettle_RejectsIncompleteDecisions(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]pipeline.Decision{
		`task "0" has no verdict`: decision(lease{Rec: &recorder{}, ID: "0"}, pipeline.Completed, 0),
		`task "1" has no outcome`: decision(lease{Rec: &recorder{}, ID: "1"}, 0, pipeline.Ack),
	} {
		rec := &recorder{}
		if err := settle(t, sink{Rec: rec}, stages.SettleOptions{}, d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
		if events := rec.Events(); len(events) != 0 {
			t.Errorf("events %v", events)
		}
	}
}
