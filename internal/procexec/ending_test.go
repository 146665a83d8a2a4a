package procexec_test

import (
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
)

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// ignoreSIGTERM is a script that starts one child process. Both processes hold the lifeline $1
// open, and continue to run after SIGTERM. The child writes "ready" when it runs. The script writes
// "term" after each SIGTERM.
const ignoreSIGTERM = `
	exec 9>"$1"
	trap 'echo term >&2' TERM
	(trap '' TERM; echo ready >&2; exec sleep 1000) &
	while :; do wait; done`

// When a task ends, for whatever reason, all processes in its process group are killed.
func TestCommand_EndsTheProcessGroup(t *testing.T) {
	t.Parallel()
	const never = time.Hour
	for _, tc := range []struct {
		name    string
		script  string
		opts    procexec.CommandOptions
		signals func(ready, term <-chan struct{}) procexec.StopSignals
		want    outcome.Kind
	}{
		{
			name:   "time-out, exits at SIGTERM",
			script: `exec 9>"$1"; sleep 1000`,
			opts:   procexec.CommandOptions{MaxRuntime: 100 * time.Millisecond, KillDelay: never},
			want:   outcome.TimedOut,
		}, {
			name:   "time-out, ignores SIGTERM",
			script: ignoreSIGTERM,
			opts:   procexec.CommandOptions{MaxRuntime: 300 * time.Millisecond, KillDelay: 100 * time.Millisecond},
			want:   outcome.TimedOut,
		}, {
			name:   "time-out without kill delay",
			script: ignoreSIGTERM,
			opts:   procexec.CommandOptions{MaxRuntime: 300 * time.Millisecond, KillDelay: procexec.NoKillDelay},
			want:   outcome.TimedOut,
		}, {
			name:   "time-out, a grandchild ignores SIGTERM",
			script: `exec 9>"$1"; (trap '' TERM; echo ready >&2; exec sleep 1000) & wait`,
			opts:   procexec.CommandOptions{MaxRuntime: 300 * time.Millisecond, KillDelay: 100 * time.Millisecond},
			want:   outcome.TimedOut,
		}, {
			name:    "terminate, exits at SIGTERM",
			script:  `exec 9>"$1"; echo ready >&2; sleep 1000`,
			opts:    procexec.CommandOptions{KillDelay: never},
			signals: func(ready, _ <-chan struct{}) procexec.StopSignals { return procexec.StopSignals{Terminate: ready} },
			want:    outcome.Interrupted,
		}, {
			name: "terminate, exits with code 0 at SIGTERM",
			// The shell can lose a signal while it forks. Therefore its child writes "ready", after
			// the fork.
			script:  `exec 9>"$1"; trap 'exit 0' TERM; while :; do sh -c 'echo ready >&2; exec sleep 1000' & wait; done`,
			opts:    procexec.CommandOptions{KillDelay: never},
			signals: func(ready, _ <-chan struct{}) procexec.StopSignals { return procexec.StopSignals{Terminate: ready} },
			want:    outcome.Interrupted,
		}, {
			name:    "terminate, ignores SIGTERM",
			script:  ignoreSIGTERM,
			opts:    procexec.CommandOptions{KillDelay: 100 * time.Millisecond},
			signals: func(ready, _ <-chan struct{}) procexec.StopSignals { return procexec.StopSignals{Terminate: ready} },
			want:    outcome.Interrupted,
		}, {
			name:   "kill during the kill delay",
			script: ignoreSIGTERM,
			opts:   procexec.CommandOptions{KillDelay: never},
			signals: func(ready, term <-chan struct{}) procexec.StopSignals {
				return procexec.StopSignals{Terminate: ready, Kill: term}
			},
			want: outcome.Interrupted,
		}, {
			name:   "lease lost during the kill delay",
			script: ignoreSIGTERM,
			opts:   procexec.CommandOptions{KillDelay: never},
			signals: func(ready, term <-chan struct{}) procexec.StopSignals {
				return procexec.StopSignals{Terminate: ready, LeaseLost: term}
			},
			want: outcome.Interrupted,
		}, {
			name:    "kill",
			script:  ignoreSIGTERM,
			opts:    procexec.CommandOptions{KillDelay: never},
			signals: func(ready, _ <-chan struct{}) procexec.StopSignals { return procexec.StopSignals{Kill: ready} },
			want:    outcome.Interrupted,
		}, {
			name:    "lease lost",
			script:  ignoreSIGTERM,
			opts:    procexec.CommandOptions{KillDelay: never},
			signals: func(ready, _ <-chan struct{}) procexec.StopSignals { return procexec.StopSignals{LeaseLost: ready} },
			want:    outcome.LeaseLost,
		}, {
			name:   "terminate and kill before the start",
			script: ignoreSIGTERM,
			opts:   procexec.CommandOptions{KillDelay: never},
			signals: func(_, _ <-chan struct{}) procexec.StopSignals {
				return procexec.StopSignals{Terminate: closed(), Kill: closed()}
			},
			want: outcome.Interrupted,
		}, {
			name:   "suspended process",
			script: `exec 9>"$1"; echo ready >&2; kill -STOP $$`,
			opts:   procexec.CommandOptions{MaxRuntime: 200 * time.Millisecond, KillDelay: 50 * time.Millisecond},
			want:   outcome.TimedOut,
		}, {
			name: "fork bomb",
			script: `
				exec 9>"$1"
				trap '' TERM
				bomb() {
					[ "$1" -gt 0 ] || echo ready >&2
					[ "$1" -gt 0 ] && (bomb $(($1 - 1))) &
					exec sleep 1000
				}
				bomb 50`,
			opts:    procexec.CommandOptions{KillDelay: never},
			signals: func(ready, _ <-chan struct{}) procexec.StopSignals { return procexec.StopSignals{Kill: ready} },
			want:    outcome.Interrupted,
		}, {
			name:   "exits, a grandchild holds all descriptors",
			script: `exec 9>"$1"; trap '' TERM; sleep 1000 & echo out; exit 0`,
			want:   outcome.Completed,
		}, {
			name:   "exits, a grandchild prints for ever",
			script: `exec 9>"$1"; (while :; do echo x; echo y >&2; done) & exit 0`,
			want:   outcome.Completed,
		}, {
			name:   "crashes, a grandchild holds all descriptors",
			script: `exec 9>"$1"; sleep 1000 & kill -9 $$`,
			want:   outcome.Exited,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			lifeline := newLifeline(t)
			ready, term := make(chan struct{}), make(chan struct{})
			tc.opts.Argv = sh(tc.script, lifeline.path)
			tc.opts.Stderr = func(_ procexec.Task, line []byte, _ bool) {
				for object, c := range map[string]chan struct{}{"ready": ready, "term": term} {
					if string(line) == object {
						select {
						case <-c:
						default:
							close(c)
						}
					}
				}
			}
			var signals procexec.StopSignals
			if tc.signals != nil {
				signals = tc.signals(ready, term)
			}
			l := newLauncher(t, procexec.Options{})
			r := receive(t, async(t, newCommand(t, l, tc.opts), task, signals), "the result")
			if r.Kind != tc.want {
				t.Errorf("result %+v, want kind %v", r, tc.want)
			}
			if r.Kind != outcome.Completed && (r.Result != nil || r.RawResult != nil || r.RetryRequested) {
				t.Errorf("result of a task that did not complete: %+v", r)
			}
			lifeline.awaitClosed(t)
		})
	}
}

// A result contains everything that the process wrote before it exited, even if a grandchild still
// holds the pipes open.
func TestCommand_KeepsAllOutput(t *testing.T) {
	t.Parallel()
	stderr := newLines()
	r := run(t, procexec.CommandOptions{
		Argv:   sh(`sleep 1000 & i=0; while [ $i -lt 1000 ]; do echo line >&2; i=$((i+1)); done; dd if=/dev/zero bs=60000 count=1 2>/dev/null; printf tail >&2`),
		Stderr: stderr.add,
	}, task)
	if r.Kind != outcome.Completed || len(r.Result) != 6*60000+2 {
		t.Errorf("%v, a result of %d bytes", r.Kind, len(r.Result))
	}
	if n := len(stderr.all); n != 1001 || stderr.all[n-1] != "tail" {
		t.Errorf("%d lines of standard error", n)
	}
}
