// Package cloudqueue gives the ctworker command one interface to the queues of all providers.
//
//	config ─▶ Open ─▶ Provider ─┬▶ the source and the sink of a worker
//	                            └▶ Queue: load, events, status, create, purge, delete
//
// The package sends no requests to a provider itself. It calls sqsapi, pubsubapi, and the packages
// in sources and sinks.
package cloudqueue
