// Package ctworker is the root of a project that runs a function or a command
// over a very large set of tasks, in parallel, each in a process of its own, and
// loses none of them.
//
// Use the command in cmd/ctworker to run a command for each entry of a task
// file. Use package pipeline, with stages, sources and sinks, to put a worker of
// your own together. A Go SDK, with which a Go function becomes a worker program,
// will live in this package; it is not here yet.
package ctworker

// Version is the version of this module, by semantic versioning.
const Version = "0.1.0-dev"
