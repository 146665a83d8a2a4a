// Package function is a source whose tasks come from a Go iterator.
//
//	iter.Seq2[Task, error] ─▶ Receive, as slots fall free ─▶ deliveries
//
// # The guarantee
//
// Nothing is asked of the iterator before a slot can run it, and it runs in one
// goroutine at a time.
//
// # What it is not for
//
// Its tasks cannot be given back: a task that is interrupted or retried is gone
// when the program ends, as with any local source.
package function
