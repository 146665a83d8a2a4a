// Package ctworker makes a complete worker program of a Go function: it runs the
// function over a very large set of tasks, in parallel, in processes of its own,
// and loses none of them.
//
//	func main() { ctworker.Main(process) }
//
//	func process(ctx context.Context, t *ctworker.Task) (ctworker.Result, error) {
//		var in struct{ File string }
//		if err := t.Decode(&in); err != nil {
//			return nil, err
//		}
//		return map[string]any{"pixels": 4711}, nil
//	}
//
// The program has all flags and variables of a worker, and a --help that shows
// them:
//
//	go run . --task-file tasks.json -j auto
//
// # How it works
//
// The program is two things in one binary. Started by a user it is the engine: it
// reads tasks, writes events, and starts itself again, once a slot. Started by the
// engine it is a child, which is handed task after task over a socket; the
// protocol is in docs/protocol.md.
//
//	tasks ─▶ engine ─▶ child: f(task) ─▶ engine ─▶ events
//	           └─────▶ child: f(task) ─▶ ┘
//
// So what a function does to its process, it does to no other: a crash, an
// os.Exit or a kill costs the one task that was running.
//
// # What you can rely on
//
// Each task is told of exactly once it is over: its result, its error with the
// chain that led to it, its panic with the stack, its exit code, or that it ran
// longer than --max-runtime. All that a child has started ends with it.
//
// # What it is not for
//
// Use the command "ctworker run" to run a command for each task, and package
// pipeline, with stages, sources and sinks, to put a worker together that works in
// another way.
package ctworker

// Version is the version of this module, by semantic versioning.
const Version = "0.1.0-dev"
