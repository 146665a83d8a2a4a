// Package worker puts a worker together from its settings: it opens what a run
// needs, joins the stages in one function that reads from top to bottom, and
// closes everything again.
//
//	config.Config ─▶ Start ─▶ source → window → execute → classify → settle ─▶ Summary
//
// # The guarantee
//
// Whatever Start has opened is closed when it fails or when Wait returns: no
// process, descriptor, goroutine or file of the run's own is left.
//
// # What it is not for
//
// It reads no flags and handles no signals; package main does.
package worker
