// Package journal reads event logs to find out which tasks are done, so that another run can continue
// where earlier runs ended.
//
//	events.log, older.log ─▶ Read ─▶ Journal ─▶ Next(task ID): skip it, or run it as attempt n
//
// # Guarantee
//
// A task is done if the logs contain a final event for it: a task event whose field retry is false. If a
// task ID occurs several times in the task file, as many of its occurrences are skipped as it has final
// events. A log may be cut off at any byte, for example by a crash or a full disk. A task whose event is
// incomplete does not count as done.
//
// A Journal needs about 20 bytes per task. It holds a hash of 75 bits of each ID instead of the ID. For
// ten million tasks, the probability that two IDs have the same hash is about 1 in a billion.
//
// # Scope
//
// The package does not run tasks and does not write events.
package journal
