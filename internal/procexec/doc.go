// Package procexec runs tasks in processes: it starts them, exchanges tasks and results with
// them, terminates them, and cleans up after them.
//
//	Command ── one process per task ────┐
//	                                    ├─▶ Launcher ─▶ Process (group leader) ─▶ its children
//	Pool ───── worker processes ────────┘      │  ▲                                    │
//	   └────── ForkServer ─▶ forked process    │  └── orphans: left their group ◀──────┘
//	                                           └── guard: kills everything if this process is killed
//
// A Launcher starts each process in a process group of its own, from a thread that stays until
// the Launcher is closed. A Notification notifies all processes at once, for example that the
// worker is shutting down.
//
// # Command
//
// A Command starts one process per task. The task is one JSON object on its standard input. The
// result is its standard output, or one JSON object on the descriptor CTWORKER_RESULT_FD.
//
// # Pool
//
// A Pool keeps one worker process per slot and sends it task after task over the task protocol of
// docs/protocol.md: one JSON object per line over a Unix socket.
//
//	RunConfig.Input ─▶ feed ─▶ slot.pending ─▶ slot.sent ─▶ process ─▶ RunConfig.OnDone
//	                    ▲                         │
//	                    └─────── backlog ◀────────┘ revoked, or not claimed by a process that died
//
// These goroutines work on a Run, and share one mutex:
//   - feed, the caller's goroutine, assigns jobs to slots and moves jobs to slots that fell idle;
//   - one goroutine per slot starts the slot's process, reads its replies, and cleans up after it;
//   - runTimers applies the deadlines of all slots with a single timer;
//   - watchStopSignals reacts to StopSignals.
//
// Short tasks are prefetched: a process is sent more than one task, at most about 2 ms of work.
// The process must claim each task before it runs it. A claim takes one permit, and the pool
// adds one permit per task that it sends. To revoke tasks, the pool takes permits back; the
// process then returns those tasks unstarted. So a task that waits behind a long one, or in a
// process that died, runs elsewhere, and never twice.
//
// # Fork server
//
// With a ForkServer, the pool starts no process itself. A program that uses an SDK has started
// this process, and has forked a fork server, which has the user's code loaded and forks a
// process per request. The fork server is a sibling of this process, so only the fork server can
// wait for its forks.
//
//	program ─┬─ starts ─▶ this process: Pool ◀── task socket, one per slot ──┐
//	         │                  ▲                                            ▼
//	         │                  │ control socket: fork, signal, reap, ping   process
//	         │                  ▼                                            ▲
//	         └─ forks ──▶ fork server ───────────── forks ───────────────────┘
//
// The fork server is pinged every second while it has forks, and killed if it does not answer,
// because a task can suspend it. If it exits, its forks are killed.
//
// # Shared ring
//
// On Linux, a process of a Pool can write its replies into a ring buffer in memory that it shares
// with this process, and take its permits there, too. That saves two system calls per task. The
// socket remains open: it carries the tasks, and wakes this process if it waits for a reply. A
// process that does not know the ring uses the socket, and a pipe that holds one byte per permit.
// Nothing in the shared memory is trusted.
//
// # The guarantee
//
// When a task ends, everything it started ends too: the rest of its process group is killed
// before the process is reaped (so that no other process can have got its id), and on Linux
// processes that left the group are adopted and killed. If this process dies, even by SIGKILL,
// its tasks die: by the parent-death signal on Linux, and with everything they started by the
// guard. No zombie process, descriptor or goroutine is left behind, and a grandchild that holds a
// pipe open delays nothing.
//
// # Limits
//
// This is not a sandbox: tasks run with the user's own rights. The package does not know queues
// and leases; package stages connects it to the pipeline.
//
// macOS and the BSDs have no parent-death signal, no subreaper and no limit on the memory of
// another process. There only the guard covers the death of this process, a task that leaves its
// process group is not found, and CommandOptions.MemoryLimit is an error.
package procexec
