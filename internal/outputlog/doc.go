// Package outputlog records what tasks print.
//
//	lines of a task ─▶ Attempt: head, bounded tail ─▶ Log ─┬─▶ one file of JSON lines, optionally compressed
//	                                                       └─▶ two text files per attempt, if requested
//	the file ─▶ Read ─▶ Record
//
// Each line of the file is one JSON object: a line that a task has printed, or the number of lines
// that were omitted between the head and the tail of an attempt's output. The lines of one attempt
// are in the order in which they were read; lines of different tasks are mixed.
//
// # The guarantee
//
// Recording never changes the outcome of a task, and a task that prints a lot does not slow other
// tasks down: an attempt keeps at most Options.MaxSize bytes, half of them for its last lines. If
// the file cannot be written, the tasks continue. The lines that could not be written are counted
// and reported, because they are lost.
package outputlog
