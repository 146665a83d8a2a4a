// Package progress shows the progress of a run, either as a bar on a terminal or as log lines
// at regular intervals.
//
//	status() ─▶ meter (rate, remaining time) ─▶ Bar on a terminal, or Lines in the log
//
// It calls status only when it draws or logs, and never delays a task. It does not record
// outcomes; the events do.
package progress
