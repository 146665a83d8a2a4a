package stages_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// Each way in which a command can end is converted to the matching outcome.
func TestCommand_Outcomes(t *testing.T) {
	t.Parallel()
	const hang = `echo ready >&2; exec sleep 1000`
	type stops struct{ terminate, kill, lost func() }
	for _, tc := range []struct {
		name   string
		script string
		max    time.Duration
		ready  func(stops) // called when the task has written its first line to standard error
		want   pipeline.Outcome
	}{
		{name: "completed", script: `echo '{"a":1}'`, want: pipeline.Outcome{Kind: pipeline.Completed, Result: []byte(`{"a":1}`)}},
		{name: "completed, retry", script: `echo a; exit 75`, want: pipeline.Outcome{Kind: pipeline.Completed, RetryRequested: true, Result: []byte(`"a"`)}},
		{name: "invalid UTF-8", script: `printf '\377'`, want: pipeline.Outcome{Kind: pipeline.Completed, RawResult: []byte("\xff")}},
		{name: "exception", script: `echo '{"exception":"bad"}' >&3`, want: pipeline.Outcome{Kind: pipeline.Exception, Exception: "bad"}},
		{name: "exited", script: `exit 4`, want: pipeline.Outcome{Kind: pipeline.Exited, ExitCode: 4}},
		{name: "timed out", script: hang, max: 50 * time.Millisecond, want: pipeline.Outcome{Kind: pipeline.TimedOut}},
		{name: "terminate", script: hang, ready: func(e stops) { e.terminate() }, want: pipeline.Outcome{Kind: pipeline.Interrupted}},
		{name: "kill", script: `trap '' TERM; ` + hang, ready: func(e stops) { e.kill() }, want: pipeline.Outcome{Kind: pipeline.Interrupted}},
		{name: "lease lost", script: `trap '' TERM; ` + hang, ready: func(e stops) { e.lost() }, want: pipeline.Outcome{Kind: pipeline.LeaseLost}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			kill, endKill := context.WithCancel(t.Context())
			defer endKill()
			terminate, endTerminate := context.WithCancel(kill)
			defer endTerminate()
			d := deliveries(&recorder{}, 1)[0]
			l := newLauncher(t)
			c, err := procexec.NewCommand(l, procexec.CommandOptions{
				Argv: []string{"/bin/sh", "-c", tc.script}, MaxRuntime: tc.max, KillDelay: time.Hour,
				Stderr: func(procexec.Task, []byte, bool) {
					if tc.ready != nil {
						tc.ready(stops{endTerminate, endKill, func() { d.Plumbing().MarkLeaseLost(errBoom) }})
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := stages.Command(c).Run(pipeline.Phases{Fetch: context.Background(), Terminate: terminate, Kill: kill}, 0, d)
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != tc.want.Kind || got.RetryRequested != tc.want.RetryRequested || got.ExitCode != tc.want.ExitCode || got.Exception != tc.want.Exception ||
				string(got.Result) != string(tc.want.Result) || string(got.RawResult) != string(tc.want.RawResult) {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
			if got.Elapsed <= 0 || got.Usage == nil || got.Usage.PeakMemory <= 0 {
				t.Errorf("elapsed %v, usage %+v", got.Elapsed, got.Usage)
			}
		})
	}
}

// If a command cannot be started, the run fails, and the task is released.
func TestCommand_StartFails(t *testing.T) {
	t.Parallel()
	rec := &recorder{}
	l := newLauncher(t)
	c, err := procexec.NewCommand(l, procexec.CommandOptions{Argv: []string{"/bin/sh"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r := pipeline.New(t.Context(), pipeline.Options{})
	execute(r, &source{Rec: rec, N: 3}, stages.Command(c))
	if err := r.Wait(); !errors.Is(err, procexec.ErrClosed) || !strings.Contains(err.Error(), `task "0"`) {
		t.Errorf("error %v", err)
	}
	if rec.Count("release 0 0s") != 1 {
		t.Errorf("requests %q, want a release of task 0", rec.Lines())
	}
}

func newLauncher(t *testing.T) *procexec.Launcher {
	t.Helper()
	l, err := procexec.NewLauncher(procexec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}
