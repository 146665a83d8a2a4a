// Package stages has the stages that ctworker's own pipeline is made of. Each is
// one file, named after it.
//
//	source ─▶ Window ─▶ Extender ─▶ Execute ─▶ Classify ─▶ Settle ─▶ sink
//	          skip,     keeps the   a Runner   what to     event first,
//	          limit     leases      per slot   do now      then ack
//
// Warm takes the place of Execute where processes stay. A source whose leases
// never end, such as a file, needs no Extender.
//
// # The guarantee
//
// Each stage keeps the contract of pipeline.Stage: it settles what it does not
// pass on, and gives back what it holds when its context ends. Settle never
// acknowledges a task whose event is not durable.
//
// # What it is not for
//
// A stage decides nothing that is another's: Execute does not know what a retry
// is, Classify does not know what a queue is. How a process is started and ended
// is package procexec's.
package stages
