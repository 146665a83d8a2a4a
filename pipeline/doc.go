// Package pipeline is the language that ctworker's stages speak: what a task,
// a delivery, an outcome, a verdict and an event are; what a Source, a Stage and
// a Sink promise; and the Run that joins them and brings them to an end.
//
//	 Fetch phase                       Work, Kill         Settle phase
//	┌────────┐  ┌────────┐            ┌─────────┐  ┌──────────┐  ┌────────┐
//	│ Source │─▶│ window │─▶  …    ─▶ │ execute │─▶│ classify │─▶│ settle │─▶ Sink
//	└────────┘  └────────┘            └─────────┘  └──────────┘  └────────┘
//	     *Delivery     *Delivery          Result        Judgment
//
// # The guarantee
//
// Every Delivery that a Source hands over is settled exactly once, on every way
// a run can end: its source exhausted, a stage that needs no more, Stop, Kill,
// an error or a panic in a stage. A task is acknowledged only after its event is
// durable, so a crash in between repeats a task and never loses one.
//
// A Source is asked only for what can start: Options.Slots deliveries, and
// Options.Ahead beyond them, are out at a time.
//
// # What it is not for
//
// It knows no file format, no cloud, no process and no signal; those are in the
// packages that import it. It does not reorder, join or fan out: a Run is one
// line of stages.
package pipeline
