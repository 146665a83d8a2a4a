// Package progress shows the progress of a run, either as a bar on a terminal or as log lines
// at regular intervals.
//
//	status() ─▶ Meter (rate, remaining time) ─▶ Bar on a terminal, or Lines in the log
//
// The package calls status only when it draws or logs, and never delays a task. Outcomes of tasks
// are recorded in the events, not here.
package progress
