// Package conformance checks whether a program implements the task protocol of
// docs/protocol.md. It runs each case in a new process, and reports what is wrong and how to
// fix it.
//
//	Run ─▶ case ─▶ candidate (a new process) ─▶ Finding
//
// # The guarantee
//
// Each case kills its process, with the process group, before it returns. No wait within a case
// takes longer than the time-out.
//
// # Limits
//
// The package does not know which tasks the program expects. It sends small and unusual tasks,
// and accepts an exception as a reply.
package conformance
