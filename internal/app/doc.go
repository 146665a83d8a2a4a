// Package program is what every front end does around a worker: the log, the
// progress, signals, the summary and the exit code.
//
//	ctworker run ──┐
//	ctworker engine├─▶ Run ─▶ worker.Start … Wait ─▶ exit code
//	a Go program ──┘
//
// # The guarantee
//
// The three front ends behave alike: the same signal, fault or end of a run has the
// same effect and the same exit code in each.
//
// # What it is not for
//
// It parses no command line: a front end loads the settings and passes them on.
package app
