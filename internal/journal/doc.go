// Package journal reads event logs to find out which tasks are done, so that another run can continue
// where earlier ones ended.
//
//	events.log, older.log ─▶ Read ─▶ Journal ─▶ Next(task ID): skip it, or run it as attempt n
//
// # Guarantee
//
// A task is done if the logs have a final event for it: a task event whose field retry is false. A task
// ID that stands k times in the task file is skipped as often as it has final events. A log that was cut
// off at any byte, for example by a crash or a full disk, never makes a task count as done that has no
// complete event.
//
// A Journal needs about 20 bytes per task. It holds a hash of 76 bits of each ID instead of the ID. For
// ten million tasks, the probability that two IDs have the same hash is below 1 in a billion.
//
// # Scope
//
// The package does not run tasks and does not write events.
package journal
