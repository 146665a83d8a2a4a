// Package stages provides the stages of ctworker's own pipeline. Each stage has its own file.
//
//	Source ─▶ SkipLimit ─▶ Extend ─▶ Execute ─▶ Classify ─▶ Settle ─▶ Sink
//	          skip and     extends   one        maps an     writes the
//	          limit        leases    Runner     Outcome to  event, then
//	          tasks                  per slot   a Verdict   acks or releases
//
// Use ExecutePool instead of Execute if a process runs more than one task. A pipeline needs no
// Extend if the leases of its source never expire, for example if the source reads a file.
//
// # Guarantees
//
// Each stage fulfills the contract of pipeline.Stage. It settles the deliveries that it does not
// pass on, and when its context is done it releases its deliveries. Settle acknowledges a task only
// after its event is durable.
//
// # Scope
//
// Each stage has one responsibility. For example, Execute does not decide on retries, and Classify
// does not send requests to queues. Package procexec starts and ends the processes.
package stages
