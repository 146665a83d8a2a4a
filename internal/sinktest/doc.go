// Package sinktest is the contract of pipeline.Sink as a test suite. A sink's own
// test runs all of it with one call of Run.
//
//	cases ─▶ Write, Close ─▶ Harness.New's sink ─▶ file, queue
//	  ▲                                               │
//	  └──────────── what has been told ◀── read ──────┘
//
// # The guarantee
//
// A sink that passes has told every event when Write returns, whole and once,
// however many write at the same time; keeps nothing of what it was given;
// returns promptly when its context ends and works on afterwards; and can be
// closed, after which it fails, and leaves no goroutine behind.
//
// # What it is not for
//
// It knows no medium. What a full disk, a refused message or a lost connection
// do belongs in the sink's own tests. That an event outlives a crash is checked as
// far as a test can: it is read back from outside before Close.
package sinktest
