// Package cloudqueue gives the command uniform access to the queues of all providers.
//
//	config ─▶ Open ─▶ Provider ─┬▶ the source and the sink of a worker
//	                            └▶ Queue: load, events, status, create, purge, delete
//
// The requests to a provider are sent by the packages sqsapi, pubsubapi, sources/… and
// sinks/….
package cloudqueue
