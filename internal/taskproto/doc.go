// Package taskproto implements the task protocol of docs/protocol.md: the messages between ctworker
// and a worker process, and both ends of their connection. It is the only implementation in Go: the
// pool, the Go SDK and "ctworker protocol-check" use it.
//
// # Messages
//
// Each message is one JSON object on a line of its own.
//
//	ctworker            worker process   meaning
//	Hello           ─▶                   version, slot, maximum size of a result, worker data
//	                ◀─  Ready            version, and which optional parts the process uses
//	Task            ─▶                   a task to run
//	                ◀─  Reply            the result of the oldest task, or that it was returned
//	end of input    ─▶                   no more tasks: exit
//
// # Claims
//
// If a process can claim tasks (Ready.Ahead), ctworker sends it further tasks while it runs a task.
// The process must claim each task before it starts the task. A claim takes a permit, and ctworker
// adds one permit per task that it sends. To take tasks back, ctworker takes their permits; the
// process then returns these tasks without starting them. Permits are bytes in a pipe, or a number
// in the shared ring.
//
// # Transports
//
//	EngineConn                                     WorkerConn
//	  Write ──────────── socket ─────────────────▶ ReadLine
//	  Next  ◀─┬───────── socket ────────────────── WriteReply
//	          └───────── ring, in shared memory ──
//	  AddPermits, Revoke ── pipe, or ring ───────▶ Claim
//
// # The guarantee
//
// Values are passed on unchanged, byte for byte. Nothing that a process sends is trusted: a line
// that is too long is truncated, a malformed line causes an error that names the field, and data in
// the shared memory is copied before it is parsed.
package taskproto
