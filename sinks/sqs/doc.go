// Package sqs sends events to an AWS SQS queue.
//
//	Write ─▶ batches of up to 10 events or 1 MiB ─▶ SendMessageBatch
//
// # Guarantee
//
// When Write returns nil, SQS has stored every event. While SQS is unreachable, Write retries
// until its ctx ends. The caller waits for Write, so no task is acknowledged before its event is
// stored.
//
// If an event is larger than the queue accepts, its result or exception is truncated, and
// marked as truncated.
package sqs
