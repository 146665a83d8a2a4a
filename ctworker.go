// Package ctworker turns a Go function into a complete worker program. The program runs the
// function for each task of a very large set, in parallel, in separate processes, without
// losing a task.
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
// The program has all flags and environment variables of a worker; --help lists them:
//
//	go run . --task-file tasks.json -j auto
//
// # How it works
//
// The binary has two roles. Started by a user, it is the engine: it reads tasks, writes
// events, and starts one child process per slot from the same binary. A child receives one
// task after another over a socket. The protocol is described in docs/protocol.md.
//
//	tasks ─▶ engine ─▶ child: f(task) ─▶ engine ─▶ events
//	           └─────▶ child: f(task) ─▶ ┘
//
// A crash, an os.Exit or a kill in the function therefore affects only the task that was
// running in that process.
//
// # Guarantees
//
// Each task that has ended is reported by an event. The event contains one of the following: the
// result; the error, with the errors that it wraps; the panic, with its stack; the exit code; or the
// statement that the task exceeded --max-runtime. When a child process ends, all processes that it has started end, too.
//
// # Scope
//
// Main does not return. Use Run in a program that does something else before or after the run. For
// both, the options WithSource, WithSink and WithStage add sources, sinks and stages of package
// pipeline.
//
// To run a command for each task, use "ctworker run". To build a worker that works in a
// different way, use package pipeline with stages, sources and sinks.
package ctworker

// Version is the semantic version of this module.
const Version = "0.1.0-dev"
