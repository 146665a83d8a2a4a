// Package pubsub takes tasks from a subscription of Google Pub/Sub.
//
//	Receive ─▶ polls (Pull, 100 messages each) ─▶ Delivery
//	Ack     ─▶ Acknowledge, 1,000 at once
//	Release ─▶ ModifyAckDeadline to 0 or the delay
//	Extend  ─▶ ModifyAckDeadline
//
// # The guarantee
//
// What has been received is returned by Receive, or released: also where Receive is
// told to end while a poll is under way. A message that is no task is told of by
// Options.Malformed before it is acknowledged. Where the subscription delivers exactly
// once, an acknowledgment that succeeds is final, and one that comes too late is
// reported as a lease that is lost. A subscription that is there is never changed.
//
// # What it is not for
//
// It keeps no lease by itself (stages.Extender does), knows no retry, and creates no
// queue.
package pubsub
