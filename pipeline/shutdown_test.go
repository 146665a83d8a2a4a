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

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
)

var errFault = errors.New("a fault")

// Wait returns only the error that was passed to Fail, for any order in which Fail, StopFetching,
// Stop and Kill are called.
func TestRun_WaitReturnsOnlyErrorOfFail(t *testing.T) {
	t.Parallel()
	cause := errors.New("requested")
	stop := func(r *pipeline.Run) { r.Stop(cause) }
	stopFetching := func(r *pipeline.Run) { r.StopFetching(cause) }
	kill := func(r *pipeline.Run) { r.Kill(cause) }
	fail := func(r *pipeline.Run) { r.Fail(errFault) }
	for name, tc := range map[string]struct {
		calls []func(*pipeline.Run)
		want  error
		at    time.Duration
	}{
		"a signal":                  {[]func(*pipeline.Run){stop}, nil, 30 * time.Second},
		"a notice":                  {[]func(*pipeline.Run){stopFetching}, nil, time.Hour},
		"two signals":               {[]func(*pipeline.Run){stop, kill}, nil, 0},
		"a fault":                   {[]func(*pipeline.Run){fail}, errFault, time.Hour},
		"a fault after a signal":    {[]func(*pipeline.Run){stop, fail}, errFault, 30 * time.Second},
		"a fault after a notice":    {[]func(*pipeline.Run){stopFetching, fail}, errFault, time.Hour},
		"a signal after a fault":    {[]func(*pipeline.Run){fail, stop}, errFault, 30 * time.Second},
		"killed because of a fault": {[]func(*pipeline.Run){fail, kill}, errFault, 0},
		"a fault twice":             {[]func(*pipeline.Run){fail, fail}, errFault, time.Hour},
		"a fault after two signals": {[]func(*pipeline.Run){stop, kill, fail}, errFault, 0},
		"no fault":                  {[]func(*pipeline.Run){func(r *pipeline.Run) { r.Fail(nil) }, stop}, nil, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rec := newRecorder()
				var log bytes.Buffer
				r := pipeline.New(t.Context(), pipeline.Options{Slots: 4, GracePeriod: 30 * time.Second, Log: zerolog.New(zerolog.SyncWriter(&log))})
				started := make(chan string, 1)
				tasks := pipeline.From(r, "source", &source{Rec: rec, N: -1})
				pipeline.To(pipeline.Via(tasks, "work", working(r.Phases(), started, time.Hour)), "settle", settleByKind)
				<-started
				synctest.Wait()
				at := time.Now()
				for _, call := range tc.calls {
					call(r)
				}
				err := r.Wait()
				if !errors.Is(err, tc.want) || tc.want == nil && err != nil || tc.want != nil && strings.Count(err.Error(), "a fault") != 1 {
					t.Errorf("Wait: %v", err)
				}
				if took := time.Since(at); took != tc.at {
					t.Errorf("the run took %v, want %v", took, tc.at)
				}
				if n := strings.Count(log.String(), "run failed"); (n == 1) != (tc.want != nil) {
					t.Errorf("log: %s", log.String())
				}
			})
		})
	}
}

// A run ends within its time limits even if requests never return. This holds for a planned end,
// after Stop, and after Kill.
func TestRun_EndsWithinTimeLimits(t *testing.T) {
	t.Parallel()
	cause := errors.New("requested")
	hang := func(ctx context.Context, in <-chan pipeline.Result) error {
		for res := range in {
			<-ctx.Done() // the provider does not respond
			res.ReleaseAsync()
		}
		return nil
	}
	for name, tc := range map[string]struct {
		stop, kill time.Duration // when Stop and Kill are called, from the start; a negative time means never
		settled    time.Duration
		closed     time.Duration
		stuck      bool
	}{
		"planned":             {-1, -1, 30 * time.Second, 40 * time.Second, true},
		"stopped":             {time.Second, -1, 6 * time.Second, 8 * time.Second, true},
		"stopped later":       {10 * time.Second, -1, 15 * time.Second, 17 * time.Second, true},
		"stopped at its end":  {28 * time.Second, -1, 30 * time.Second, 35 * time.Second, true},
		"killed":              {time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, false},
		"killed while closed": {-1, 31 * time.Second, 30 * time.Second, 33 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rec := newRecorder()
				r := pipeline.New(t.Context(), pipeline.Options{Slots: 2, GracePeriod: time.Hour})
				began := time.Now()
				if tc.stop >= 0 {
					time.AfterFunc(tc.stop, func() { r.Stop(cause) })
				}
				if tc.kill >= 0 {
					time.AfterFunc(tc.kill, func() { r.Kill(cause) })
				}
				tasks := pipeline.From(r, "source", &source{Rec: rec, N: 2})
				pipeline.To(pipeline.Via(tasks, "complete", complete), "event log", hang)
				err := r.Wait()
				settled := time.Since(began)
				if _, _, _, stuck := pipeline.AsShutdownTimeout(err); stuck != tc.stuck || !tc.stuck && err != nil {
					t.Errorf("Wait: %v", err)
				}
				<-r.Phases().Close.Done()
				closed := time.Since(began)
				if (settled-tc.settled).Abs() > time.Second || (closed-tc.closed).Abs() > 2*time.Second {
					t.Errorf("settled after %v, closed after %v; want %v and %v", settled, closed, tc.settled, tc.closed)
				}
			})
		})
	}
}

// A run fails if a provider sends no response for the duration UnreachableTimeout.
func TestRun_FailsIfProviderIsUnreachable(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		unreachable bool // the source reports that its requests fail
		ackHangs    bool // acknowledgments get no response
		writes      bool // writes of the sink get no response
		want        string
	}{
		"reachable":       {false, false, false, ""},
		"the source":      {true, false, false, "the task source"},
		"acknowledgments": {false, true, false, "the task source"},
		"events":          {false, false, true, "the event sink"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := pipeline.New(t.Context(), pipeline.Options{Slots: 1, IdleTimeout: 3 * time.Hour, UnreachableTimeout: time.Hour})
				began := time.Now()
				src := &unresponsiveSource{unreachable: tc.unreachable, ackHangs: tc.ackHangs}
				sink := r.WatchSink(hangingSink(tc.writes))
				tasks := pipeline.From(r, "source", src)
				pipeline.To(pipeline.Via(tasks, "complete", complete), "settle", func(ctx context.Context, in <-chan pipeline.Result) error {
					for res := range in {
						if err := sink.Write(ctx, nil); err != nil {
							res.ReleaseAsync()
							continue
						}
						_ = res.Ack(ctx)
					}
					return nil
				})
				failed := make(chan time.Duration, 1)
				go func() { <-r.Phases().Fetch.Done(); failed <- time.Since(began) }()
				err := r.Wait()
				if errors.Is(err, pipeline.ErrUnreachable) != (tc.want != "") || tc.want != "" && !strings.Contains(err.Error(), tc.want+" could not be reached for 1h0m0s") {
					t.Fatalf("Wait: %v", err)
				}
				if at := <-failed; tc.want != "" && (at < time.Hour || at > time.Hour+time.Minute) {
					t.Errorf("failed after %v, want about 1h", at)
				}
			})
		})
	}
}

// unresponsiveSource returns one task, or no task if unreachable is true. Receive blocks if it has
// no task to return.
type unresponsiveSource struct {
	unreachable, ackHangs, delivered bool
}

func (s *unresponsiveSource) Receive(ctx context.Context, _ int) ([]*pipeline.Delivery, error) {
	if !s.delivered && !s.unreachable {
		s.delivered = true
		lease := pipelinetest.FuncLease{Expiry: time.Now().Add(24 * time.Hour), OnAck: s.ack}
		return []*pipeline.Delivery{pipeline.NewDelivery(pipeline.Task{ID: "t"}, lease, 1)}, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// ack blocks until ctx is done if ackHangs is true, as if the provider did not respond.
func (s *unresponsiveSource) ack(ctx context.Context) error {
	if s.ackHangs {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (s *unresponsiveSource) LastFailure() time.Time {
	if s.unreachable {
		return time.Now()
	}
	return time.Time{}
}

func (s *unresponsiveSource) Close(context.Context) error { return nil }

// hangingSink is a sink. If its value is true, Write blocks until its context is done, as if the
// provider did not respond.
type hangingSink bool

func (s hangingSink) Write(ctx context.Context, _ []pipeline.Event) error {
	if s {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (hangingSink) Close(context.Context) error { return nil }
