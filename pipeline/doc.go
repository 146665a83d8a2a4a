// Package pipeline is the language that ctworker's stages speak: what a task,
// a delivery, an outcome, a verdict and an event are; what a Source, a Stage and
// a Sink promise; and the Run that joins them and brings them to an end.
//
//	 Fetch                 Stop, Work, Kill         Settle             Close
//	┌────────┐  ┌────────┐   ┌─────────┐   ┌──────────┐  ┌────────┐  ┌───────┐
//	│ Source │─▶│ window │─▶ │ execute │─▶ │ classify │─▶│ settle │─▶│ Sink  │
//	└────────┘  └────────┘   └─────────┘   └──────────┘  └────────┘  └───────┘
//	     *Delivery     *Delivery        Result       Decision
//
// # The guarantee
//
// Every Delivery that a Source returns is settled exactly once, however the run ends: when
// the source is exhausted, a stage needs no more deliveries, StopFetching, Stop, Kill or Fail is
// called, or a stage fails or panics. A task is acknowledged only after its event is durable,
// so a crash in between can repeat a task but not lose it. An event is written only while the
// lease on its task is known to hold (see Delivery.Held). Once a lease has expired, the run
// sends no request for it to the source.
//
// A Source is asked only for what can start: Options.Slots deliveries, and
// Options.Ahead beyond them, are out at a time.
//
// # How a run ends
//
// StopFetching is a planned end, Stop is a requested shutdown, and Kill is the second request: after
// these, Wait returns nil. Fail reports a fault that is not a task's, and Wait returns its
// error. The phases are contexts. They end in the order of the diagram, and every step after
// Stop or Kill has a time limit; see end.go and Phases.
//
// # Scope
//
// The package does not know file formats, clouds, processes or signals; the packages that
// import it do. It does not reorder, join or fan out deliveries: a Run is a single line of
// stages.
package pipeline
