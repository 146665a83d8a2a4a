// Package poll takes tasks from a queue that has to be asked for them, whichever
// provider's it is: it asks for what may start, several times at once where that pays,
// and keeps apart what is no task.
//
//	Receive ─▶ polls, side by side ─▶ Options.Ask ─▶ Message ─┬▶ Delivery
//	                                                          └▶ no task: Options.Malformed, then Ack
//
// # The guarantee
//
// What a poll has brought is returned by Receive, or released: also where Receive is
// told to end while a poll is under way. A message that is no task is told of before
// it is acknowledged.
//
// # What it is not for
//
// It speaks to no provider and keeps no lease: packages sources/sqs and sources/pubsub
// do the one, stages.Extender the other.
package queuepoll
