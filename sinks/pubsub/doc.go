// Package pubsub sends events to a Google Pub/Sub topic.
//
//	Write ─▶ batches of up to 1,000 events or 10 MB ─▶ Publish
//
// # Guarantee
//
// When Write returns nil, Pub/Sub has stored every event for the subscription. While Pub/Sub is
// unreachable, Write retries until its ctx ends. The caller waits for Write, so no task is
// acknowledged before its event is stored.
//
// If an event is larger than Pub/Sub accepts, its result or exception is truncated, and marked
// as truncated.
package pubsub
