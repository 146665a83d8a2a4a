// Package procexec runs tasks in processes: it starts processes, exchanges tasks and results with
// them, terminates them, and cleans up after them.
//
//	Command ── one process per task ────┐
//	                                    ├─▶ Launcher ─▶ Process (group leader) ─▶ its children
//	Pool ───── worker processes ────────┘      │  ▲                                    │
//	   └────── ForkServer ─▶ forked process    │  └── orphans: left their group ◀──────┘
//	                                           └── guard: kills everything if this process is killed
//
// A Launcher starts each process in a process group of its own. The thread that starts a process
// exists until the Launcher is closed, because the system kills the process when that thread ends. A
// Notification informs all processes at once, for example that the worker is shutting down. The guard
// is a helper process: if this process is killed, the guard kills the tasks.
//
// # Command
//
// A Command starts one process per task. The process reads the task, one JSON object, from its
// standard input. Its standard output is the result, unless it writes one JSON object to the
// descriptor CTWORKER_RESULT_FD.
//
// # Pool
//
// A Pool keeps one worker process per slot, and sends it task after task over the task protocol; see
// docs/protocol.md and package taskproto. One goroutine, the loop, owns all slots, processes and
// jobs. Other goroutines only wait, and send it events.
//
//	                     ┌────────── backlog ◀────────┐ taken back, or not claimed by a dead process
//	                     ▼                            │
//	RunConfig.Input ─▶ loop ─▶ sent tasks of a process ─▶ RunConfig.Output
//	                     ▲
//	                     └── events: replies, exits, launches, lost leases, deadlines, stop signals
//
// A process is in one of these states. Package-internal tests check every pair of state and event.
//
//	launching ─▶ starting ─▶ ready ◀──▶ busy ─▶ returning ─▶ ready
//	                │          │         │          │
//	                │          └────┬────┴──────────┘ its input is closed: retiring ─▶ gone
//	                └───────────────┴─ SIGTERM: terminating ─▶ SIGKILL: killed ─────▶ gone
//
// The loop sends short tasks ahead: a process holds up to 2 ms of work. The process must claim each
// task before it starts the task. The loop can take back a task that is not claimed; the process then
// returns the task unstarted. Therefore a task that waits behind a long task, or in a process that
// died, runs elsewhere, and never twice.
//
// # Fork server
//
// A program that uses an SDK may bring a fork server: a process that has loaded the user's code, and
// that forks a new process on request. The Pool then starts no process itself. The fork server is a
// sibling of this process, so only the fork server can wait for its forks.
//
//	program ─┬─ starts ─▶ this process: Pool ◀── task socket, one per slot ──┐
//	         │                  ▲                                            ▼
//	         │                  │ control socket: fork, signal, reap, ping   process
//	         │                  ▼                                            ▲
//	         └─ forks ──▶ fork server ───────────── forks ───────────────────┘
//
// A task can suspend the fork server, its parent process. Therefore this process pings the fork
// server every second while it has forks, and kills it if it does not answer. If the fork server
// exits, its forks are killed.
//
// # The guarantee
//
// When a task ends, all processes that it started end as well. The rest of its process group is
// killed before the leader is reaped, because until then the system cannot reuse the id of the group.
// On Linux, processes that left the group are adopted and killed. If this process dies, even by
// SIGKILL, its tasks die: on Linux by the parent-death signal, and everything else by the guard. No
// zombie process, descriptor or goroutine is left behind. A grandchild that holds a pipe open delays
// nothing.
//
// # Limits
//
// Package procexec is not a sandbox: tasks have the rights of the user. It does not know queues and
// leases; package stages connects it to the pipeline.
//
// macOS and the BSDs have no parent-death signal, cannot adopt orphans, and cannot limit the memory
// of another process. There, only the guard covers the death of this process, a task that leaves its
// process group is not found, and CommandOptions.MemoryLimit is an error.
package procexec
