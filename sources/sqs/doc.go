// Package sqs receives tasks from an AWS SQS queue.
//
//	Receive ─▶ polls (10 messages each) ─▶ Delivery
//	Ack     ─▶ DeleteMessageBatch
//	Release ─▶ ChangeMessageVisibilityBatch, 0 or the delay
//	Extend  ─▶ ChangeMessageVisibilityBatch
//
// # Guarantee
//
// Every received message is either returned by Receive or released, even if the context of
// Receive ends during a poll. A malformed message is passed to Options.OnMalformed before it is
// deleted. Receives, deletions, releases and extensions do not wait for each other.
//
// # Scope
//
// The package does not extend leases on its own (stages.Extend does), does not decide about
// retries of tasks, and does not create queues.
package sqs
