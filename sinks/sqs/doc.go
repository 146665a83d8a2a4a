// Package sqs sends events to a queue of AWS SQS.
//
//	Write ─▶ 10 events or 1 MiB each ─▶ SendMessageBatch
//
// # The guarantee
//
// Write returns nil once SQS has every event. While SQS cannot be reached, Write
// tries again until its ctx ends: whoever writes waits, and so nothing is
// acknowledged that was not told.
//
// An event is told whole, or, where it is larger than the queue takes, with its
// result or exception cut and marked as such.
package sqs
