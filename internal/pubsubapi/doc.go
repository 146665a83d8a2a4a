// Package pubsubapi has what the packages that call Google Pub/Sub share: finding
// credentials, classifying and describing errors, retrying requests, and managing queues.
//
//	sources/pubsub ─┐
//	sinks/pubsub   ─┴▶ pubsubapi ─▶ cloud.google.com/go/pubsub/v2
//
// A queue is a topic with one subscription. Messages are published to the topic and
// received from the subscription.
//
// The package is independent of tasks and events.
package pubsubapi
