// Package pubsubapi contains the code that all callers of Google Pub/Sub need. It finds
// credentials, classifies and describes errors, retries requests, and manages queues.
//
//	sources/pubsub ─┐
//	sinks/pubsub   ─┴▶ pubsubapi ─▶ cloud.google.com/go/pubsub/v2
//
// A queue is a topic with one subscription. Messages are published to the topic and
// received from the subscription.
//
// The package is independent of tasks and events.
package pubsubapi
