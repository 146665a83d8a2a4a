// Package pipeline defines the types that ctworker's stages exchange (Task, Delivery, Outcome,
// Verdict, Event), the contracts of Source, Stage and Sink, and the Run that connects stages
// to a pipeline and shuts it down.
//
//	┌────────┐  ┌───────────┐  ┌────────┐  ┌─────────┐  ┌──────────┐  ┌────────┐  ┌──────┐
//	│ Source │─▶│ skip/limit│─▶│ extend │─▶│ execute │─▶│ classify │─▶│ settle │─▶│ Sink │
//	└────────┘  └───────────┘  └────────┘  └─────────┘  └──────────┘  └────────┘  └──────┘
//	       *Delivery      *Delivery   *Delivery      Result       Decision      Event
//
// The stages in the diagram are those of package stages. A pipeline may have others.
//
// # Guarantees
//
// Every Delivery that a Source returns is settled exactly once. That holds for every end of a run:
// the source is exhausted, a stage needs no more deliveries, a stage fails or panics, or the
// caller calls StopFetching, Stop, Kill or Fail.
//
// A task is acknowledged only after its event is durable. A crash between the two can repeat a
// task but cannot lose one.
//
// An event is written only while the lease on its task is known to hold (see Delivery.Held).
// After a lease has expired, the run sends no request about its task to the source.
//
// The run requests only deliveries that can start soon: one per slot, Options.Prefetch more, and if
// tasks are short, as many as the slots finish in about a second.
//
// # Shutdown
//
// Five contexts control a run (see Phases). They end in this order; ■ marks the end of each:
//
//	Stop()     ├─ GracePeriod ─┼─ KillDelay ─┼─ up to 5 s ─┤
//	Fetch      ■ release what has not started│             │
//	Shutdown   ■ notify tasks  │             │             │
//	Terminate                  ■ SIGTERM     │             │
//	Kill                                     ■ SIGKILL     │
//	Settle                                    report, ack  ■ abandon
//
// The run does not wait for the rest of GracePeriod and KillDelay when no task runs any more. Kill
// ends the first four contexts at once. StopFetching and Fail end Fetch only, so that running
// tasks may finish. After the last task, Options.SettleTimeout limits the time to report and
// settle. A sixth context, Close, limits the time to close the source and the sinks.
//
// After Fail, Wait returns the error that was passed to Fail. After StopFetching, Stop and Kill,
// Wait returns nil.
//
// # Scope
//
// Package pipeline does not depend on file formats, cloud providers, processes or signals. A Run is
// a single line of stages: it does not split the deliveries between parallel branches or join
// branches.
package pipeline
