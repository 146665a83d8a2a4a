package procexec_test

import (
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/procexec"
)

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// stubborn is a script whose process, and a child of it, ignore SIGTERM and hold
// the life $1. It says "ready", and "term" on each SIGTERM.
const stubborn = `
	exec 9>"$1"
	trap 'echo term >&2' TERM
	(trap '' TERM; echo ready >&2; exec sleep 1000) &
	while :; do wait; done`

// A task that is over is over with all that is in its group, whatever ended it.
func TestEnding(t *testing.T) {
	t.Parallel()
	const never = time.Hour
	for _, tc := range []struct {
		name   string
		script string
		opts   procexec.CommandOptions
		ends   func(ready, term <-chan struct{}) procexec.StopSignals
		want   procexec.ExitKind
	}{
		{
			name:   "a time-out, and SIGTERM is enough",
			script: `exec 9>"$1"; sleep 1000`,
			opts:   procexec.CommandOptions{MaxRuntime: 100 * time.Millisecond, KillDelay: never},
			want:   procexec.TimedOut,
		}, {
			name:   "a time-out, and SIGTERM is ignored",
			script: stubborn,
			opts:   procexec.CommandOptions{MaxRuntime: 300 * time.Millisecond, KillDelay: 100 * time.Millisecond},
			want:   procexec.TimedOut,
		}, {
			name:   "a time-out, and no kill delay",
			script: stubborn,
			opts:   procexec.CommandOptions{MaxRuntime: 300 * time.Millisecond, KillDelay: -1},
			want:   procexec.TimedOut,
		}, {
			name:   "a time-out, and only a grandchild ignores SIGTERM",
			script: `exec 9>"$1"; (trap '' TERM; echo ready >&2; exec sleep 1000) & wait`,
			opts:   procexec.CommandOptions{MaxRuntime: 300 * time.Millisecond, KillDelay: 100 * time.Millisecond},
			want:   procexec.TimedOut,
		}, {
			name:   "term, and SIGTERM is enough",
			script: `exec 9>"$1"; echo ready >&2; sleep 1000`,
			opts:   procexec.CommandOptions{KillDelay: never},
			ends:   func(ready, _ <-chan struct{}) procexec.StopSignals { return procexec.StopSignals{Terminate: ready} },
			want:   procexec.Interrupted,
		}, {
			name: "term, and a command that finishes first",
			// The grandchild says when it is past the shell's fork, in which a signal can be lost.
			script: `exec 9>"$1"; trap 'exit 0' TERM; while :; do sh -c 'echo ready >&2; exec sleep 1000' & wait; done`,
			opts:   procexec.CommandOptions{KillDelay: never},
			ends:   func(ready, _ <-chan struct{}) procexec.StopSignals { return procexec.StopSignals{Terminate: ready} },
			want:   procexec.Interrupted,
		}, {
			name:   "term, and SIGTERM is ignored",
			script: stubborn,
			opts:   procexec.CommandOptions{KillDelay: 100 * time.Millisecond},
			ends:   func(ready, _ <-chan struct{}) procexec.StopSignals { return procexec.StopSignals{Terminate: ready} },
			want:   procexec.Interrupted,
		}, {
			name:   "kill during the kill delay",
			script: stubborn,
			opts:   procexec.CommandOptions{KillDelay: never},
			ends: func(ready, term <-chan struct{}) procexec.StopSignals {
				return procexec.StopSignals{Terminate: ready, Kill: term}
			},
			want: procexec.Interrupted,
		}, {
			name:   "drop during the kill delay",
			script: stubborn,
			opts:   procexec.CommandOptions{KillDelay: never},
			ends: func(ready, term <-chan struct{}) procexec.StopSignals {
				return procexec.StopSignals{Terminate: ready, LeaseLost: term}
			},
			want: procexec.Interrupted,
		}, {
			name:   "kill",
			script: stubborn,
			opts:   procexec.CommandOptions{KillDelay: never},
			ends:   func(ready, _ <-chan struct{}) procexec.StopSignals { return procexec.StopSignals{Kill: ready} },
			want:   procexec.Interrupted,
		}, {
			name:   "drop",
			script: stubborn,
			opts:   procexec.CommandOptions{KillDelay: never},
			ends:   func(ready, _ <-chan struct{}) procexec.StopSignals { return procexec.StopSignals{LeaseLost: ready} },
			want:   procexec.LeaseLost,
		}, {
			name:   "term and kill before it starts",
			script: stubborn,
			opts:   procexec.CommandOptions{KillDelay: never},
			ends: func(_, _ <-chan struct{}) procexec.StopSignals {
				return procexec.StopSignals{Terminate: closed(), Kill: closed()}
			},
			want: procexec.Interrupted,
		}, {
			name:   "a process that has stopped itself",
			script: `exec 9>"$1"; echo ready >&2; kill -STOP $$`,
			opts:   procexec.CommandOptions{MaxRuntime: 200 * time.Millisecond, KillDelay: 50 * time.Millisecond},
			want:   procexec.TimedOut,
		}, {
			name: "a fork bomb",
			script: `
				exec 9>"$1"
				trap '' TERM
				bomb() {
					[ "$1" -gt 0 ] || echo ready >&2
					[ "$1" -gt 0 ] && (bomb $(($1 - 1))) &
					exec sleep 1000
				}
				bomb 50`,
			opts: procexec.CommandOptions{KillDelay: never},
			ends: func(ready, _ <-chan struct{}) procexec.StopSignals { return procexec.StopSignals{Kill: ready} },
			want: procexec.Interrupted,
		}, {
			name:   "by itself, and a grandchild holds everything open",
			script: `exec 9>"$1"; trap '' TERM; sleep 1000 & echo out; exit 0`,
			want:   procexec.Completed,
		}, {
			name:   "by itself, and a grandchild prints without end",
			script: `exec 9>"$1"; (while :; do echo x; echo y >&2; done) & exit 0`,
			want:   procexec.Completed,
		}, {
			name:   "a crash, and a grandchild holds everything open",
			script: `exec 9>"$1"; sleep 1000 & kill -9 $$`,
			want:   procexec.Exited,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			life := newLife(t)
			ready, term := make(chan struct{}), make(chan struct{})
			tc.opts.Argv = sh(tc.script, life.path)
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
			if tc.ends != nil {
				signals = tc.ends(ready, term)
			}
			l := newLauncher(t, procexec.Options{})
			r := receive(t, async(t, newCommand(t, l, tc.opts), task, signals), "the report")
			if r.Kind != tc.want {
				t.Errorf("%+v, want end %v", r, tc.want)
			}
			if r.Kind != procexec.Completed && (r.Result != nil || r.RawResult != nil || r.RetryRequested) {
				t.Errorf("a result without an end: %+v", r)
			}
			life.over(t)
		})
	}
}

// What a process had written when it ended is kept, though a grandchild holds
// the pipes open.
func TestNothingWrittenIsLost(t *testing.T) {
	t.Parallel()
	said := newLines()
	r := run(t, procexec.CommandOptions{
		Argv:   sh(`sleep 1000 & i=0; while [ $i -lt 1000 ]; do echo line >&2; i=$((i+1)); done; dd if=/dev/zero bs=60000 count=1 2>/dev/null; printf tail >&2`),
		Stderr: said.take,
	}, task)
	if r.Kind != procexec.Completed || len(r.Result) != 6*60000+2 {
		t.Errorf("%v, a result of %d bytes", r.Kind, len(r.Result))
	}
	if n := len(said.all); n != 1001 || said.all[n-1] != "tail" {
		t.Errorf("%d lines of standard error", n)
	}
}
