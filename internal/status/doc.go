// Package status shows a run while it runs: a live page, metrics for Prometheus, health checks and a
// JSON document.
//
//	outcome of each task ─▶ Recorder ─┐
//	once per second: numbers of ended tasks ─▶ history ─┤
//	on request: progress, running tasks, usage ─────────┴─▶ Snapshot ─▶ Server: /  /events  /metrics  /api/v1/status
//
// # Cost
//
// Per task, a Recorder updates one bucket of a histogram and a counter. Everything else is done for
// a request: a Snapshot is made at most once per second, however many clients there are. The
// memory is bounded: a Recorder keeps the last failures, the slowest tasks and a history with a fixed
// number of points, whatever the number of tasks.
//
// # Security
//
// The server only reads. It rejects requests whose Host header names another host, so that a web page
// in a browser on the same machine cannot read the status through DNS rebinding. Everything that comes
// from tasks is data in JSON, which the page inserts as text and never as HTML.
package status
