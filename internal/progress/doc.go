// Package progress shows how far a run has come: as a bar on a terminal, or as a
// line in the log every now and then.
//
//	status() ─▶ meter (rate, time left) ─▶ Bar on a terminal | Lines in the log
//
// # The guarantee
//
// It only looks: it asks for a Status when it draws, and neither delays nor
// counts a task.
//
// # What it is not for
//
// It is no record: what came of each task is in the events.
package progress
