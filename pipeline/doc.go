// Package pipeline is the language that ctworker's stages speak: what a task,
// a delivery, an outcome, a verdict and an event are; what a Source, a Stage and
// a Sink promise; and the Run that joins them and brings them to an end.
//
//	 Fetch                 Stop, Work, Kill         Settle             Close
//	┌────────┐  ┌────────┐   ┌─────────┐   ┌──────────┐  ┌────────┐  ┌───────┐
//	│ Source │─▶│ window │─▶ │ execute │─▶ │ classify │─▶│ settle │─▶│ Sink  │
//	└────────┘  └────────┘   └─────────┘   └──────────┘  └────────┘  └───────┘
//	     *Delivery     *Delivery        Result       Judgment
//
// # The guarantee
//
// Every Delivery that a Source returns is settled exactly once, however the run ends: its
// source exhausted, a stage that needs no more, Drain, Stop, Kill, Fail, or an error or a
// panic in a stage. A task is acknowledged only after its event is durable, so a crash in
// between repeats a task and never loses one. An event is written only while the lease on its
// task is known to hold (Delivery.Held), and nothing is asked of a source whose lease has
// ended.
//
// A Source is asked only for what can start: Options.Slots deliveries, and
// Options.Ahead beyond them, are out at a time.
//
// # How a run ends
//
// The cause decides what Wait returns. Drain is a planned end, Stop a shutdown that somebody
// asked for, and Kill the second request for it: none of them is an error. Fail is for a
// fault that is not a task's, and Wait returns it. The phases, which are contexts, end in
// the order of the diagram, and every step after Stop or Kill is bounded: see end.go and
// Phases.
//
// # What it is not for
//
// It knows no file format, no cloud, no process and no signal; those are in the
// packages that import it. It does not reorder, join or fan out: a Run is one
// line of stages.
package pipeline
