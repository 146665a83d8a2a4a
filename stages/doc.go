// Package stages provides the stages of ctworker's own pipeline, one per file.
//
//	Source ─▶ SkipLimit ─▶ Extender ─▶ Execute ─▶ Classify ─▶ Settle ─▶ Sink
//	          skip and     extends     one        maps an     writes the
//	          limit        leases      Runner     Outcome to  event, then
//	          tasks                    per slot   a Verdict   acks or releases
//
// ExecutePool replaces Execute if processes run more than one task. A source whose leases
// never expire, such as a file, needs no Extender.
//
// # Guarantees
//
// Each stage fulfills the contract of pipeline.Stage: it settles the deliveries that it does
// not pass on, and releases the others when its context is done. Settle acknowledges a task
// only after its event is durable.
//
// # Scope
//
// Each stage has one responsibility: Execute has no notion of retries, and Classify none of
// queues. Package procexec starts and ends the processes.
package stages
