// Package procexec runs tasks in processes: it starts them, talks to them, ends
// them and clears up after them.
//
//	Command ──▶ Launcher ──▶ Process (leader of a group) ──▶ its children
//	               │  ▲                                          │
//	               │  └── orphans: what left its group ◀─────────┘
//	               └── guard: kills it all if this process is killed
//
// A Launcher starts processes, from a thread of its own, each in a process group
// of its own. A Command runs one process for each task: the task is a JSON object
// on its standard input, its result what it writes to its standard output. A
// Notice tells all processes something at once, such as that the worker shuts
// down.
//
// # The guarantee
//
// When a task is over, so is everything it started: what is left in its process
// group is killed before the process is reaped (so that no other process can
// have got its id), and on Linux what left the group is adopted and killed. If
// this process dies, even of SIGKILL, its tasks die: by the parent-death signal
// on Linux, and with all that they started by the guard. No process is left a
// zombie, no descriptor and no goroutine is leaked, and no grandchild that holds
// a pipe open delays anything.
//
// # What it is not for
//
// It is no sandbox: tasks run with the user's own rights. It knows nothing of
// queues and leases; package stages joins it to the pipeline.
//
// macOS and the BSDs have neither parent-death signals nor subreapers nor limits
// on another process's memory: there the guard alone covers the death of this
// process, a task that leaves its process group is not caught, and
// CommandOptions.MemoryLimit is an error.
package procexec
