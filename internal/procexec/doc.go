// Package procexec runs tasks in processes. It starts the processes, exchanges tasks and results
// with them, terminates them, and kills the processes that they leave behind.
//
//	Command ── one process per task ────┐
//	                                    ├─▶ Launcher ─▶ Process (group leader) ─▶ its children
//	Pool ───── worker processes ────────┘      │  ▲                                    │
//	   └────── ForkServer ─▶ forked process    │  └── orphans: left their group ◀──────┘
//	                                           └── guard: kills everything if this program is killed
//
// A Launcher starts each process in its own process group. A Notification notifies all running
// tasks of an event, for example the shutdown of the worker. The guard is a helper process. If this
// program is killed, the guard kills all tasks.
//
// # Command
//
// A Command starts one process per task. The process reads the task, one JSON object, from its
// standard input. It returns the result on its standard output, or as one JSON object on the
// descriptor CTWORKER_RESULT_FD.
//
// # Pool
//
// A Pool keeps one worker process per slot and sends it task after task over the task protocol; see
// docs/protocol.md and package taskproto. One goroutine, the loop, owns all slots, processes and
// jobs. Other goroutines only wait, for example for the exit of a process, and then send an event
// to the loop.
//
//	                     ┌────────── backlog ◀────────┐ taken back, or not claimed by a dead process
//	                     ▼                            │
//	RunConfig.Input ─▶ loop ─▶ sent tasks of a process ─▶ RunConfig.Output
//	                     ▲
//	                     └── events: replies, exits, launches, lost leases, deadlines, stop signals
//
// Each process is in one of these states:
//
//	launching ─▶ starting ─▶ ready ◀──▶ busy ─▶ returning ─▶ ready
//	                │          │         │          │
//	                │          └────┬────┴──────────┘ its input is closed: retiring ─▶ gone
//	                └───────────────┴─ SIGTERM: terminating ─▶ SIGKILL: killed ─────▶ gone
//
// Short tasks are sent ahead: while a process runs one task, it already holds the next ones, at
// most about 2 ms of work. The process must claim each task, that is, announce that it starts the
// task. The loop can take back (revoke) tasks that the process has not claimed. The process then
// cannot claim these tasks, and returns them without running them. Therefore a task that waits
// behind a long task can run in another process, and no task runs twice. Tasks that a process had
// not claimed when it died also run in another process.
//
// # Fork server
//
// With a ForkServer, the Pool starts no process itself. The user's program, which uses an SDK,
// starts ctworker and forks the fork server. The fork server has already loaded the user's code,
// and forks a process whenever the Pool requests one. Only the fork server, as the parent of these
// processes, can wait for them.
//
//	program ─┬─ starts ─▶ ctworker: Pool ◀────── task socket, one per slot ──┐
//	         │                  ▲                                            ▼
//	         │                  │ control socket: fork, signal, reap, ping   process
//	         │                  ▼                                            ▲
//	         └─ forks ──▶ fork server ───────────── forks ───────────────────┘
//
// A task can suspend the fork server, for example with SIGSTOP. Therefore ctworker pings the fork
// server every second while forked processes exist, and kills a fork server that does not answer.
// If the fork server exits, ctworker kills the forked processes.
//
// # The guarantee
//
// When a task ends, everything that it started is killed:
//   - The other processes in the process group of the task are killed before the process of the
//     task is reaped. Until then, the id of that process, which is also the id of the group, cannot
//     be reused.
//   - Processes that have left the group become children of this program, which kills them (Linux).
//
// If this program dies, even by SIGKILL, its tasks die: the kernel sends them the parent-death
// signal (Linux), and the guard kills them and everything that they started. No zombie process,
// descriptor or goroutine is left behind. A child process that keeps a pipe of a task open does not
// delay the result of the task.
//
// # Limits
//
// This package is not a sandbox: tasks run with the rights of the user. It does not access queues
// or leases; package stages connects it to the pipeline.
//
// On macOS and the BSDs, this package uses no parent-death signal and does not adopt orphaned
// processes. If this program dies, only the guard kills the tasks. A process that leaves the
// process group of its task is not killed when the task ends. Setting CommandOptions.MemoryLimit is
// an error.
package procexec
