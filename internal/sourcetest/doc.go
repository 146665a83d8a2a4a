// Package sourcetest is the contract of pipeline.Source as a test suite. A
// source's own test runs all of it with one call of Run.
//
//	Harness.New ─▶ a source with known tasks ◀─ Receive, settle, Close ── cases
//	   Features ─▶ which cases there are          Handed, Blocking, … ─▶ more cases
//
// # The guarantee
//
// A source that passes hands out every task once and unchanged, and never more
// than it was asked for; returns promptly when its context ends, without losing
// what it had taken; says so once there will never be another task; can be
// closed at any time and leaves no goroutine behind; and, as far as its Features
// say so, delivers again what was released or not settled in time, and never
// what was acknowledged.
//
// A case that the Features exclude is not run, rather than skipped: a skipped
// test in the output of a source always means that something is missing.
//
// # What it is not for
//
// It knows no provider. Throughput, error texts, the size of requests, and what
// a provider does in an outage belong in the source's own tests. A provider that
// may deliver a task twice at any time, as a standard SQS queue does, is tested
// against a fake or an emulator that does so only when it must.
package sourcetest
