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
//   - returns io.EOF once there will be no further task,
//   - can be closed at any time, after which no goroutine remains, and
//   - depending on its Features, redelivers tasks that were released or not settled in time, but
//     never acknowledged ones.
//
// Cases that the Features exclude are omitted instead of skipped, so a skipped test in the output
// always means that something is missing.
//
// # Scope
//
// The suite is independent of the provider. Test throughput, error texts, request sizes and
// outages in the source's own tests. If the provider may deliver a task twice at any time, as a
// standard SQS queue does, test with a fake or an emulator that does so only when it must.
package sourcetest
