// Package app runs a worker on behalf of a front end. It adds the log, the progress display, the
// handling of signals, the summary and the exit code.
//
//	ctworker run ──┐
//	ctworker engine├─▶ Run ─▶ worker.Start … Wait ─▶ exit code
//	a Go program ──┘
//
// # The guarantee
//
// The three front ends behave identically: the same signal, error or end of a run has the same
// effect and the same exit code.
//
// # Limits
//
// The package does not parse the command line. The front ends load the settings and pass them on.
package app
