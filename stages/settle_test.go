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

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// judged is a delivery with an outcome of that kind and a verdict on it.
func judged(l lease, kind pipeline.OutcomeKind, verdict pipeline.Verdict) pipeline.Decision {
	d := pipeline.NewDelivery(pipeline.Task{ID: l.id, Data: []byte(`{}`)}, l, 1)
	return pipeline.Decision{Delivery: d, Outcome: pipeline.Outcome{Kind: kind}, Verdict: verdict}
}

// settle runs Settle on js, which are all there when it begins.
func settle(t *testing.T, s pipeline.Sink, opts stages.SettleOptions, js ...pipeline.Decision) error {
	t.Helper()
	in := make(chan pipeline.Decision, len(js))
	for _, j := range js {
		in <- j
	}
	close(in)
	return stages.Settle(s, opts)(t.Context(), in)
}

// What is told, then what is settled: never the other way round.
func TestSettle(t *testing.T) {
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
		{0, 0, []string{"release 0 0s"}},
	} {
		for _, local := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.kind, " ", tc.verdict, " local ", local), func(t *testing.T) {
				t.Parallel()
				j := &journal{}
				now := time.Unix(1000, 0)
				opts := stages.SettleOptions{Hostname: "here", RetryDelay: 7 * time.Second, Now: func() time.Time { return now }}
				if err := settle(t, sink{j: j}, opts, judged(lease{j: j, id: "0", local: local}, tc.kind, tc.verdict)); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.want, j.all()); diff != "" {
					t.Error(diff)
				}
				for _, e := range j.events {
					if e.Hostname != "here" || !e.Time.Equal(now) || e.Retry != (tc.verdict == pipeline.Retry) || e.Attempt != 1 {
						t.Errorf("%+v", e)
					}
				}
			})
		}
	}
}

// No event is written for a task whose lease was lost while it ran, or before the write.
func TestSettleAfterTheLeaseWasLost(t *testing.T) {
	t.Parallel()
	j := &journal{}
	var log bytes.Buffer
	lost := judged(lease{j: j, id: "0"}, pipeline.LeaseLost, pipeline.Release)
	lost.MarkLeaseLost(errors.New("gone"))
	late := judged(lease{j: j, id: "1"}, pipeline.Completed, pipeline.Ack)
	late.MarkLeaseLost(errors.New("gone"))
	if err := settle(t, sink{j: j}, stages.SettleOptions{Log: zerolog.New(zerolog.SyncWriter(&log))}, lost, late); err != nil {
		t.Fatal(err)
	}
	if all := j.all(); len(all) != 0 {
		t.Errorf("%q", all)
	}
	if n := strings.Count(log.String(), "result discarded"); n != 1 || !strings.Contains(log.String(), `"task_id":"1"`) {
		t.Errorf("log %s", log.String())
	}
}

// A settlement that fails is logged, and the others go on.
func TestFailingAckIsLogged(t *testing.T) {
	t.Parallel()
	for _, local := range []bool{false, true} {
		j := &journal{}
		var log bytes.Buffer
		err := settle(t, sink{j: j}, stages.SettleOptions{Log: zerolog.New(zerolog.SyncWriter(&log))},
			judged(lease{j: j, id: "0", local: local}, pipeline.Completed, pipeline.Ack),
			judged(lease{j: j, id: "1", local: local, ackErr: errBoom}, pipeline.Completed, pipeline.Ack),
			judged(lease{j: j, id: "2", local: local, ackErr: errBoom}, pipeline.Exited, pipeline.Retry),
			judged(lease{j: j, id: "3", local: local}, pipeline.Completed, pipeline.Ack))
		if err != nil {
			t.Fatal(err)
		}
		if got := j.all(); len(got) != 8 {
			t.Errorf("%q", got)
		}
		for _, id := range []string{"1", "2"} {
			if !strings.Contains(log.String(), `"task_id":"`+id+`"`) {
				t.Errorf("task %s is not in the log %s", id, log.String())
			}
		}
		if strings.Count(log.String(), "\n") != 2 || strings.Count(log.String(), "boom") != 2 {
			t.Errorf("log %s", log.String())
		}
	}
}

// Events that cannot be written end the run with an error that says so; the
// tasks that they tell of are given back, and those told of before are not.
func TestFailingSink(t *testing.T) {
	t.Parallel()
	for _, local := range []bool{false, true} {
		t.Run(fmt.Sprint("local ", local), func(t *testing.T) {
			t.Parallel()
			j := &journal{}
			told := 0
			s := sink{j: j, write: func(events []pipeline.Event) error {
				if told += len(events); told > 20 {
					return errBoom
				}
				return nil
			}}
			r := pipeline.New(t.Context(), pipeline.Options{Slots: 4, Prefetch: 4})
			complete := runner(func(pipeline.Phases, int, *pipeline.Delivery) (pipeline.Outcome, error) {
				return pipeline.Outcome{Kind: pipeline.Completed}, nil
			})
			results := pipeline.Via(pipeline.From(r, "source", &source{j: j, n: -1, local: local}), "execute", stages.Execute(r, complete))
			pipeline.To(pipeline.Via(results, "classify", stages.Classify(stages.RetryOptions{})), "settle", stages.Settle(s, stages.SettleOptions{}))
			err := r.Wait()
			if !errors.Is(err, errBoom) || !strings.Contains(err.Error(), "settle: ") || !strings.Contains(err.Error(), " events: ") {
				t.Errorf("error %v", err)
			}
			for i := range r.ReceivedCount() {
				events, acks, backs := j.count(fmt.Sprint("event ", i, " task_completed")), j.count(fmt.Sprint("ack ", i)), j.count(fmt.Sprint("release ", i, " 0s"))
				if acks+backs != 1 || acks != events {
					t.Errorf("task %d: %d events, %d acks, %d times given back", i, events, acks, backs)
				}
			}
		})
	}
}

// What has come while events were written goes out together, in order, and an
// ack that takes its time keeps no event waiting.
func TestEventsAreWrittenInBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		var sizes []int
		first, hang := make(chan struct{}), make(chan struct{})
		s := sink{j: j, write: func(events []pipeline.Event) error {
			sizes = append(sizes, len(events))
			if len(sizes) == 1 {
				<-first
			}
			return nil
		}}
		in := make(chan pipeline.Decision, 1000)
		var tally stages.Stats
		done := make(chan error)
		go func() { done <- stages.Settle(s, stages.SettleOptions{Tally: &tally})(t.Context(), in) }()
		in <- judged(lease{j: j, id: "0", hang: hang}, pipeline.Completed, pipeline.Ack)
		synctest.Wait()
		if told := tally.Counts().Reported(); told != 0 {
			t.Errorf("%d are counted before their events are durable", told)
		}
		for i := 1; i <= 300; i++ {
			in <- judged(lease{j: j, id: fmt.Sprint(i), hang: hang}, pipeline.Completed, pipeline.Ack)
		}
		if got := j.all(); len(got) != 0 {
			t.Errorf("%q before the first event was durable", got)
		}
		close(first)
		synctest.Wait()
		if !slices.Equal(sizes, []int{1, 256, 44}) {
			t.Errorf("batches of %v", sizes)
		}
		if got := j.all(); len(got) != 301 || slices.ContainsFunc(got, func(l string) bool { return !strings.HasPrefix(l, "event") }) {
			t.Errorf("%d lines", len(got))
		}
		close(hang)
		close(in)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for i := range 301 {
			if lines := j.all(); lines[i] != fmt.Sprint("event ", i, " task_completed") || j.count(fmt.Sprint("ack ", i)) != 1 {
				t.Errorf("task %d: %s, %d acks", i, lines[i], j.count(fmt.Sprint("ack ", i)))
			}
		}
		if told := tally.Counts().Reported(); told != 301 {
			t.Errorf("%d counted", told)
		}
	})
}

// A local task, whose lease never ends, is settled before the next is looked at.
func TestLocalTasksAreSettledInLine(t *testing.T) {
	t.Parallel()
	j := &journal{}
	in := make(chan pipeline.Decision)
	done := make(chan error)
	go func() { done <- stages.Settle(sink{j: j}, stages.SettleOptions{})(t.Context(), in) }()
	var want []string
	for i := range 20 {
		id := fmt.Sprint(i)
		in <- judged(lease{j: j, id: id, local: true}, pipeline.Completed, pipeline.Ack)
		want = append(want, "event "+id+" task_completed", "ack "+id)
	}
	close(in)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// Two may have been taken at once; each one's event still comes first.
	got := j.all()
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

// A sink whose time is over leaves nothing acknowledged.
func TestSettleWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 2, SettleTimeout: 5 * time.Second})
		hang := sink{j: j, write: func([]pipeline.Event) error {
			<-r.Phases().Settle.Done()
			return r.Phases().Settle.Err()
		}}
		complete := runner(func(pipeline.Phases, int, *pipeline.Delivery) (pipeline.Outcome, error) {
			return pipeline.Outcome{Kind: pipeline.Completed}, nil
		})
		results := pipeline.Via(pipeline.From(r, "source", &source{j: j, n: 2}), "execute", stages.Execute(r, complete))
		pipeline.To(pipeline.Via(results, "classify", stages.Classify(stages.RetryOptions{})), "settle", stages.Settle(hang, stages.SettleOptions{}))
		err := r.Wait()
		var stuck *pipeline.ShutdownTimeoutError
		if !errors.As(err, &stuck) || !slices.Contains(stuck.Stages, "settle") {
			t.Errorf("error %v", err)
		}
		if got := j.all(); len(got) != 0 {
			t.Errorf("%q", got)
		}
	})
}

func TestTally(t *testing.T) {
	t.Parallel()
	j := &journal{}
	var tally stages.Stats
	var js []pipeline.Decision
	add := func(n int, kind pipeline.OutcomeKind, v pipeline.Verdict, usage *pipeline.Usage) {
		for range n {
			jd := judged(lease{j: j, id: fmt.Sprint(len(js))}, kind, v)
			jd.Outcome.Usage = usage
			js = append(js, jd)
		}
	}
	add(1, pipeline.Completed, pipeline.Ack, nil)
	add(2, pipeline.Completed, pipeline.Retry, &pipeline.Usage{CPU: time.Second, PeakMemory: 5})
	add(3, pipeline.Exception, pipeline.Ack, &pipeline.Usage{CPU: time.Second, PeakMemory: 9})
	add(4, pipeline.TimedOut, pipeline.Retry, &pipeline.Usage{CPU: time.Minute, PeakMemory: 2})
	add(5, pipeline.Exited, pipeline.Ack, nil)
	add(6, pipeline.Interrupted, pipeline.Release, nil)
	add(7, pipeline.LeaseLost, pipeline.Release, nil)
	if err := settle(t, sink{j: j}, stages.SettleOptions{Tally: &tally}, js...); err != nil {
		t.Fatal(err)
	}
	want := stages.Counts{
		Completed: 3, Exception: 3, TimedOut: 4, Exited: 5, Interrupted: 6, LeaseLost: 7, Retried: 6,
		CPU: 4*time.Minute + 5*time.Second, PeakMemory: 9,
	}
	if diff := cmp.Diff(want, tally.Counts()); diff != "" {
		t.Error(diff)
	}
	if c := tally.Counts(); c.Reported() != 15 || c.NotCompleted() != 12 {
		t.Errorf("told %d, failed %d", c.Reported(), c.NotCompleted())
	}
	if told := int64(len(j.events)); told != tally.Counts().Reported() {
		t.Errorf("%d events", told)
	}
}

// ClassifyAndSettle does to each task what the two stages do.
func TestClassifyAndSettle(t *testing.T) {
	t.Parallel()
	retry := stages.RetryOptions{OnExit: true, MaxAttempts: 2}
	results := func() (all []pipeline.Result) {
		for _, o := range []pipeline.Outcome{
			{Kind: pipeline.Completed, Result: []byte("1")}, {Kind: pipeline.Exited, ExitCode: 3}, {Kind: pipeline.Interrupted},
			{Kind: pipeline.Exception, Exception: "no"}, {Kind: pipeline.Completed, RetryRequested: true},
		} {
			for attempt := 1; attempt <= 2; attempt++ {
				d := pipeline.NewDelivery(pipeline.Task{ID: fmt.Sprintf("%d-%d", o.Kind, attempt)}, nil, attempt)
				all = append(all, pipeline.Result{Delivery: d, Outcome: o})
			}
		}
		return all
	}
	now := func() time.Time { return time.Unix(1, 0) }
	told := func(run func(sink pipeline.Sink, in <-chan pipeline.Result) error) (events []string) {
		in := make(chan pipeline.Result, 100)
		all := results()
		for _, r := range all {
			in <- r
		}
		close(in)
		sink := sinkFunc(func(batch []pipeline.Event) {
			for _, e := range batch {
				events = append(events, string(e.AppendJSON(nil)))
			}
		})
		if err := run(sink, in); err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if !r.Settled() {
				t.Errorf("task %s has not been settled", r.Task.ID)
			}
		}
		return events
	}
	one := told(func(sink pipeline.Sink, in <-chan pipeline.Result) error {
		return stages.ClassifyAndSettle(sink, retry, stages.SettleOptions{Now: now})(t.Context(), in)
	})
	two := told(func(sink pipeline.Sink, in <-chan pipeline.Result) error {
		between := make(chan pipeline.Decision, 100)
		if err := stages.Classify(retry)(t.Context(), in, between); err != nil {
			return err
		}
		close(between)
		return stages.Settle(sink, stages.SettleOptions{Now: now})(t.Context(), between)
	})
	if len(one) != 8 || !slices.Equal(one, two) {
		t.Errorf("in one\n%s\nand in two\n%s", strings.Join(one, "\n"), strings.Join(two, "\n"))
	}
}

type sinkFunc func([]pipeline.Event)

func (f sinkFunc) Write(_ context.Context, events []pipeline.Event) error { f(events); return nil }
func (f sinkFunc) Close(context.Context) error                            { return nil }

// waitingSink waits before it reads the events, as an unreachable sink does, and writes those
// that are not withheld by then.
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

// If a lease expires while its event waits for a slow sink, the event is not written: the
// result is discarded, counted as lost, and logged once. The rest of the batch is written.
func TestSettle_DiscardsResultIfLeaseExpiresDuringWrite(t *testing.T) {
	t.Parallel()
	for _, parallel := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			j := &journal{}
			var log bytes.Buffer
			var tally stages.Stats
			of := func(id string, lasts time.Duration) pipeline.Decision {
				d := pipeline.NewDelivery(pipeline.Task{ID: id, Data: []byte(`{}`)}, endingLease{lease{j: j, id: id}, time.Now().Add(lasts)}, 2)
				return pipeline.Decision{Delivery: d, Outcome: pipeline.Outcome{Kind: pipeline.Completed}, Verdict: pipeline.Ack}
			}
			slow := waitingSink{sink{j: j}, func() { <-time.After(time.Minute) }}
			opts := stages.SettleOptions{MaxConcurrentWrites: parallel, Tally: &tally, Log: zerolog.New(zerolog.SyncWriter(&log))}
			if err := settle(t, slow, opts, of("short", 30*time.Second), of("long", time.Hour)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"event long task_completed", "ack long"}, j.all()); diff != "" {
				t.Error(diff)
			}
			if c := tally.Counts(); c.Completed != 1 || c.LeaseLost != 1 {
				t.Errorf("%+v", c)
			}
			if n := strings.Count(log.String(), `"level":"warn"`); n != 1 || !strings.Contains(log.String(), `"task_id":"short","attempt":2`) {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}

// endingLease is a lease that expires.
type endingLease struct {
	lease
	expires time.Time
}

func (l endingLease) ExpiresAt() time.Time { return l.expires }

// A panic in the sink fails the run, and the tasks are released.
func TestSettle_SinkThatPanics(t *testing.T) {
	t.Parallel()
	for _, parallel := range []int{1, 4} {
		j := &journal{}
		panics := sink{j: j, write: func([]pipeline.Event) error { panic("a nil pointer in the sink") }}
		err := settle(t, panics, stages.SettleOptions{MaxConcurrentWrites: parallel}, judged(lease{j: j, id: "0"}, pipeline.Completed, pipeline.Ack))
		if err == nil || !strings.Contains(err.Error(), "a nil pointer in the sink") {
			t.Errorf("%v", err)
		}
		if diff := cmp.Diff([]string{"release 0 0s"}, j.all()); diff != "" {
			t.Error(diff)
		}
	}
}
