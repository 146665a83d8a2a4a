// Package worker builds and runs a worker from its configuration. It opens the resources of the
// run, connects the stages in one function, watches for termination notices, and closes everything.
//
//	config.Config ─▶ Start ─▶ source ─▶ skip/limit ─▶ extend ─▶ execute ─▶ settle ─▶ Wait ─▶ Summary
//
// The stages skip/limit and extend are omitted if they are not needed. In the diagram, settle
// includes the stage classify.
//
// # Guarantee
//
// Everything that Start opens is closed when Start fails or Wait returns: no process, file
// descriptor, goroutine or temporary file of the run remains.
//
// # Scope
//
// The package parses no flags and handles no signals; package app does.
package worker
