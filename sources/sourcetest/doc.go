// Package sourcetest is a test suite for the contract of pipeline.Source. The test of a source
// runs the whole suite with one call of Run.
//
//	Harness.New ─▶ a source with known tasks ◀─ Receive, settle, Close ── cases
//	Features ─▶ selects cases              Delivered, NewBlocking, … ─▶ enable more cases
//
// # Guarantee
//
// A source that passes
//
//   - delivers every task once and unchanged, and never more tasks than requested,
//   - returns promptly when the context ends, without losing the tasks that it has fetched,
//   - returns io.EOF when no more tasks will arrive,
//   - can be closed at any time, after which no goroutine remains, and
//   - depending on its Features, redelivers tasks that were released or not settled in time, but
//     never redelivers acknowledged tasks.
//
// Run omits the cases that the Features exclude, instead of skipping them. A skipped test in the
// output therefore always indicates a problem.
//
// # Scope
//
// The suite is independent of the provider. Test throughput, error texts, request sizes and outages
// in the source's own tests. If the provider may deliver a task twice at any time, as a standard
// SQS queue does, use a fake or an emulator that redelivers a task only after a release or the end
// of the lease.
package sourcetest
