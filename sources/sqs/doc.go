// Package sqs takes tasks from a queue of AWS SQS.
//
//	Receive ─▶ polls (10 messages each) ─▶ Delivery
//	Ack     ─▶ DeleteMessageBatch
//	Release ─▶ ChangeMessageVisibilityBatch, 0 or the delay
//	Extend  ─▶ ChangeMessageVisibilityBatch
//
// # The guarantee
//
// What has been received is returned by Receive, or released: also where Receive is
// told to end while a poll is under way. A message that is no task is told of by
// Options.Malformed before it is deleted. The receives, deletions, releases and
// extensions wait for none of each other.
//
// # What it is not for
//
// It keeps no lease by itself (stages.Extender does), knows no retry, and creates no
// queue.
package sqs
