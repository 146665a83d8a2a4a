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
// Every Delivery that a Source returns is settled exactly once, however the run ends: when
// the source is exhausted, a stage needs no more deliveries, StopFetching, Stop, Kill or Fail
// is called, or a stage fails or panics. A task is acknowledged only after its event is
// durable, so a crash in between can repeat a task but not lose it. An event is written only
// while the lease on its task is known to hold (see Delivery.Held). Once a lease has expired,
// the run sends no request for it to the source.
//
// The run requests only as many deliveries as can start soon: at most Options.Slots plus
// Options.Prefetch deliveries wait for a slot or run.
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
// Each wait is skipped once no task runs. Kill ends the first four contexts at once.
// StopFetching and Fail end Fetch only: running tasks may finish. Then the time to report and
// settle is Options.SettleTimeout. A sixth context, Close, bounds the time to close the source
// and the sinks.
//
// Wait returns nil after StopFetching, Stop and Kill, and the error of Fail after Fail.
//
// # Scope
//
// Package pipeline has no knowledge of file formats, clouds, processes or signals. It does
// not reorder, join or fan out deliveries: a Run is a single line of stages.
package pipeline
