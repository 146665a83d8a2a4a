package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/pipeline"
)

// stuck is a last stage that blocks until its context is done, like a stage whose sink is
// unreachable.
func stuck(ctx context.Context, in <-chan pipeline.Result) error {
	for res := range in {
		<-ctx.Done()
		res.ReleaseAsync()
	}
	return nil
}

// A task that has ended does not count as running, even if its result is in a stage, in the buffer
// between two stages, or blocked in a send. When all tasks of a run have ended, the time limit for
// settling applies.
func TestRun_RunningAndUnreported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const buffer = 32 // capacity of the channels between stages if the source is shared
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 1})
		want := func(when string, running, unreported int64) {
			t.Helper()
			synctest.Wait()
			if got, ended := r.Status().Running, r.Status().Unreported; got != running || ended != unreported {
				t.Errorf("%s: %d running and %d unreported, want %d and %d", when, got, ended, running, unreported)
			}
		}
		started := make(chan string, 100)
		tasks := pipeline.From(r, "source", &source{Rec: newRecorder(), N: 2 * buffer, Hint: pipeline.Hints{Shared: true, BatchSize: 1}})
		pipeline.To(pipeline.Via(tasks, "work", working(r.Phases(), started, time.Minute)), "event log", stuck)
		want("first task", 1, 0)
		time.Sleep(90 * time.Second) // with the fake clock of synctest
		want("second task", 1, 1)
		time.Sleep(time.Hour)
		want("full buffer", 0, 1+buffer+1)
		began := time.Now()
		r.Fail(errors.New("a fault"))
		err := r.Wait()
		if _, unsettled, _, ok := pipeline.AsShutdownTimeout(err); !ok || unsettled != 1+buffer+1 {
			t.Errorf("Wait: %v", err)
		}
		if took := time.Since(began); took > 32*time.Second { // SettleTimeout, and 2 s for the stages to return
			t.Errorf("Wait took %v, want at most 32s", took)
		}
		want("end", 0, 0)
	})
}

// When a run has failed, its log messages name what the run is still waiting for.
func TestRun_FailLogsPendingWork(t *testing.T) {
	t.Parallel()
	const stopped = `"running":0,"message":"run failed: stopped fetching tasks"`
	for name, tc := range map[string]struct {
		runtime  time.Duration // how long the task runs
		consume  pipeline.Consumer[pipeline.Result]
		ackHangs bool // the acknowledgment gets no response
		want     []string
	}{
		"running task": {time.Hour, ackAll, false, []string{
			`"running":1,"message":"run failed: stopped fetching tasks, waiting for running tasks to end"`,
		}},
		"event": {0, stuck, false, []string{
			stopped,
			`"events_pending":1,"settlements_pending":0,"limit_seconds":28,"message":"no tasks are running: waiting for events to be written before the worker exits"`,
		}},
		"acknowledgment": {0, ackAll, true, []string{
			stopped,
			`"events_pending":0,"settlements_pending":1,"limit_seconds":28,"message":"no tasks are running: waiting for the source to confirm that finished tasks are removed or released"`,
		}},
		"nothing": {0, ackAll, false, []string{stopped}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				r := pipeline.New(t.Context(), pipeline.Options{Log: zerolog.New(zerolog.SyncWriter(&log))})
				tasks := pipeline.From(r, "source", &unresponsiveSource{ackHangs: tc.ackHangs})
				pipeline.To(pipeline.Via(tasks, "work", working(r.Phases(), make(chan string, 1), tc.runtime)), "event log", tc.consume)
				time.Sleep(time.Second)
				r.Fail(errors.New("a fault"))
				_ = r.Wait()
				lines := strings.Split(strings.TrimSpace(log.String()), "\n")
				for i, want := range tc.want {
					if len(lines) != len(tc.want) || !strings.Contains(lines[i], want) {
						t.Errorf("log:\n%swant\n%s", log.String(), strings.Join(tc.want, "\n"))
					}
				}
			})
		})
	}
}

// If OnFail is set, the run does not log its failure.
func TestRun_OnFail(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	var failures []error
	fault := errors.New("a fault")
	r := pipeline.New(t.Context(), pipeline.Options{
		OnFail: func(err error) { failures = append(failures, err) },
		Log:    zerolog.New(&log),
	})
	r.Fail(fault)
	r.Fail(errors.New("another"))
	if len(failures) != 1 || !errors.Is(failures[0], fault) || log.Len() > 0 {
		t.Errorf("OnFail got %v; logged %s", failures, log.String())
	}
	if err := r.Wait(); !errors.Is(err, fault) {
		t.Errorf("Wait: %v", err)
	}
}
