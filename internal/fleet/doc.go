// Package fleet derives the state of a job from its events: the tasks that are done, the failures, and the
// workers. "ctworker monitor" uses it.
//
//	event log (replay) ─┐
//	event queue ────────┴▶ State.Apply ─▶ State.Snapshot ─▶ screen, log lines, summary
//
// The state depends only on the events, so it can be rebuilt from the event log. An event that is applied
// twice counts once, and the order of the events does not matter, except for their time of arrival.
//
// All texts in events come from other machines, and may contain anything. The package limits their lengths
// and numbers. The caller must escape them before it prints them.
package fleet
