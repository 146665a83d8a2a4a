// Package queue is what the command needs of a provider's queues, whichever provider
// it is.
//
//	config ─▶ Open ─▶ Provider ─┬▶ the source and the sink of a worker
//	                            └▶ Queue: load, events, status, create, purge, delete
//
// # What it is not for
//
// It speaks to no cloud itself: packages aws, sources/… and sinks/… do.
package cloudqueue
