// Package pubsub sends events to a topic of Google Pub/Sub.
//
//	Write ─▶ 1,000 events or 10 MB each ─▶ Publish
//
// # The guarantee
//
// Write returns nil once Pub/Sub has every event, and a subscription that keeps them.
// While Pub/Sub cannot be reached, Write tries again until its ctx ends: whoever writes
// waits, and so nothing is acknowledged that was not told.
//
// An event is told whole, or, where it is larger than Pub/Sub takes, with its
// result or exception cut and marked as such.
package pubsub
