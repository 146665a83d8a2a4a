// Package pubsub receives tasks from a Google Pub/Sub subscription.
//
//	Receive ─▶ polls (Pull, 100 messages each) ─▶ Delivery
//	Ack     ─▶ Acknowledge, 1,000 messages per request
//	Release ─▶ ModifyAckDeadline to 0 or the delay
//	Extend  ─▶ ModifyAckDeadline
//
// # Guarantee
//
// Every received message is either returned by Receive or released, even if the context of
// Receive ends during a poll. A malformed message is passed to Options.OnMalformed before it is
// acknowledged. With exactly-once delivery, a successful acknowledgment is final, and an
// acknowledgment after the lease has expired returns pipeline.ErrLeaseLost. The package never
// changes the subscription.
//
// # Scope
//
// The package does not extend leases on its own (stages.Extend does), does not decide about
// retries of tasks, and does not create queues.
package pubsub
