// Package sinktest is a test suite for the contract of pipeline.Sink. The test of a sink runs
// the whole suite with one call of Run.
//
//	cases ─▶ Write, Close ─▶ sink of Harness.New ─▶ file, queue
//	  ▲                                                │
//	  └──────────── written events ◀── read ───────────┘
//
// # Guarantee
//
// A sink that passes
//
//   - has stored every event completely and once when Write returns, also with concurrent Writes,
//   - does not retain the events that were passed to Write,
//   - returns promptly when the context ends, and works afterwards, and
//   - can be closed, after which Write returns an error and no goroutine remains.
//
// # Scope
//
// The suite is independent of the medium. Test full disks, rejected messages and lost connections
// in the sink's own tests. The suite cannot fully test durability. As a partial test, it reads the
// stored events before Close, without using the sink.
package sinktest
