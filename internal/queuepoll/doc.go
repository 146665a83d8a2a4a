// Package queuepoll receives tasks from any queue that has to be polled. It requests at most as many
// messages as there are tasks that can start. If the queue has enough messages, the package sends
// several requests concurrently. It separates malformed messages from tasks.
//
//	Receive ─▶ concurrent polls ─▶ Options.Receive ─▶ Message ─┬▶ Delivery
//	                                                           └▶ malformed: Options.OnMalformed, then Ack
//
// # Guarantee
//
// Every received message is either returned by Receive or released, even if the context of Receive
// ends during a poll. A malformed message is reported before it is acknowledged.
//
// # Scope
//
// Packages sources/sqs and sources/pubsub send the requests to a provider. stages.Extend extends
// the leases.
package queuepoll
