// Package pipelinetest provides sources, leases and a sink for tests of stages and pipelines, and a
// testing.TB that records failures, for tests of contract suites.
//
//	Source ─▶ deliveries with a Lease ─▶ stages ─▶ Sink
//	  │                 │                            │
//	  └──────────▶ one Recorder, in order ◀──────────┘
//
// # Guarantee
//
// A Recorder contains each request to a Source and its leases, and each event of a Sink, in the order
// in which they ended. Source fulfills the contract of pipeline.Source. The package imports no
// package of this module except pipeline, so that the tests of every package can use it.
package pipelinetest
