// Package protocolcheck runs a candidate for a worker process through the task
// protocol (docs/protocol.md), case by case, and says in words what is wrong.
//
//	Run ─▶ a case ─▶ candidate (a fresh process) ─▶ Finding
//
// # The guarantee
//
// Each case starts a process of its own and has ended it, with its group, when it
// returns. No case takes longer than the time-out given.
//
// # What it is not for
//
// It does not know what a candidate's tasks are: it hands over small and odd ones,
// and an exception is as good a reply as a result.
package conformance
