// Package gcp is what the packages that speak to Google Cloud have in common: finding
// the account, its errors in words, second tries, and the queues of Pub/Sub.
//
//	sources/pubsub ─┐
//	sinks/pubsub   ─┴▶ gcp ─▶ cloud.google.com/go/pubsub/v2
//
// A queue is a topic and its one subscription: what is published to the one is
// received from the other.
//
// # What it is not for
//
// It knows no task and no event.
package pubsubapi
