// Package queuepoll receives tasks from a queue that has to be polled, independently of the
// provider. It requests as many messages as tasks can start, with several concurrent
// requests if the queue is full enough, and separates malformed messages from tasks.
//
//	Receive ─▶ concurrent polls ─▶ Options.Receive ─▶ Message ─┬▶ Delivery
//	                                                           └▶ malformed: Options.OnMalformed, then Ack
//
// # Guarantee
//
// Every received message is either returned by Receive or released, even if the context of
// Receive ends during a poll. A malformed message is reported before it is acknowledged.
//
// # Scope
//
// The package does not call a provider (sources/sqs and sources/pubsub do) and does not
// extend leases (stages.Extender does).
package queuepoll
