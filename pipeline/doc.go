// Package pipeline defines the types that ctworker's stages exchange (Task, Delivery, Outcome,
// Verdict, Event), the contracts of Source, Stage and Sink, and Run, which connects stages into a
// pipeline and shuts the pipeline down.
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
// Every Delivery that a Source returns is settled exactly once. This holds no matter how the run
// ends: the source is exhausted, a stage needs no more deliveries, a stage fails or panics, or the
// caller calls StopFetching, Stop, Kill or Fail.
//
// A task is acknowledged only after its event is durable. A crash between the write and the
// acknowledgment can repeat the task but cannot lose it.
//
// An event is written only while the lease on its task is known to hold (see Delivery.Held).
// After a lease has expired, the run sends no request about its task to the source.
//
// The run holds few deliveries at a time: one per slot plus Options.Prefetch. It prefetches more
// only if worker processes receive tasks in advance (one more per slot) or if tasks are short (at
// most as many more as the slots finish in about a second).
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
// When no task runs any more, the run skips the rest of GracePeriod and KillDelay. Kill ends the
// first four contexts immediately. StopFetching and Fail end only Fetch, so running tasks may
// finish. After the last task has ended, Options.SettleTimeout limits the time to report and
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
